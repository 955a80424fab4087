"""Read op tables that others published: CSV (also .gz) or Parquet, several GPUs and engines in one.

Every row is one timed operation. Rows are grouped by GPU, framework and kernel, because a fit
across a kernel switch describes neither kernel. What a table cannot tell is refused with a
sentence: a missing column, a unit that gives impossible speeds. What is left out (rows without a
time, duplicates, formats that are not modelled) is told. Of duplicates the first row wins, as it
does in the planners that read such tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from roofprobe.costmodel import forms
from roofprobe.costmodel.points import Points
from roofprobe.costmodel.table_files import SUFFIXES, table_frame
from roofprobe.costmodel.table_folders import TableFile, table_file
from roofprobe.costmodel.table_layouts import (
    DTYPES,
    ELEMENT_BYTES,
    LATENCY_S,
    LAYOUTS,
    MEANT,
    ONLY,
    SYSTEMS,
    Layout,
    column,
    numeric,
    words_of,
)
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.match import UnknownAcceleratorError, find, identify
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import is_folder

if TYPE_CHECKING:
    import pandas as pd

_DTYPE_SHARE: Final = 0.15  # how far a peak told by ``mfu`` may be off the catalogue's


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds: operations grouped for fitting, and sentences about what was left out."""

    points: tuple[Points, ...]
    notes: tuple[str, ...]


def is_table(path: Path) -> bool:
    """Whether a path looks like an op table, or a folder of them, and not like a run."""
    if is_folder(path):
        return not any((path / name).exists() for name in ("run.json", "latest", "journal.jsonl"))
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path, *, gpu: str | None = None) -> Table:
    """Read an op table; ``gpu`` (a catalogue key) names the GPU where the table does not.

    Raises ``RoofprobeError`` (``unreadable-table``, ``missing-columns``, ``unknown-accelerator``).
    """
    return read_file(table_file(path), gpu)


def read_file(file: TableFile, gpu: str | None) -> Table:
    """Read a table with what its path tells; see `read_table`."""
    path = file.path
    frame = table_frame(path)
    if file.latency is not None and "latency" in frame.columns:
        frame = frame.rename(columns={"latency": file.latency})
    for name, value in file.columns.items():
        if name not in frame.columns:
            frame[name] = value
    notes: list[str] = []
    points: list[Points] = []
    taken = np.zeros(len(frame), dtype=bool)
    for layout, rows in _matches(frame, path):
        taken |= rows
        part = frame[rows]
        if len(part):
            points += _points(part, layout, path, gpu, notes)
    if (~taken).any() and "table" in frame:
        kinds = ", ".join(sorted({str(name) for name in frame.loc[~taken, "table"]}))
        notes.append(f"{path.name}: {int((~taken).sum())} rows of kinds not modelled ({kinds})")
    elif (~taken).any():
        kinds = ", ".join(sorted({str(name) for name in frame.loc[~taken, "op_name"]}))
        notes.append(
            f"{path.name}: {int((~taken).sum())} rows of operations not modelled ({kinds})"
        )
    if not points:
        raise RoofprobeError(
            "unreadable-table",
            f"{path} has no operation that can be calibrated; it needs GEMM columns (gemm_dtype, "
            "m, n, k, latency_ms) or attention columns (op_name, batch_size, isl, …, latency_ms)",
        )
    return Table(tuple(points), tuple(notes))


def _matches(frame: pd.DataFrame, path: Path) -> Iterator[tuple[Layout, np.ndarray]]:
    """Yield each layout with the rows that have it."""
    if "table" in frame.columns:
        words = [frozenset(words_of(str(name))) for name in frame["table"]]
        for layout in LAYOUTS:
            if layout.tables:
                wanted = frozenset(layout.tables)
                yield layout, np.array([wanted <= have for have in words], dtype=bool)
        return
    if "op_name" in frame.columns:
        names = frame["op_name"].astype(str)
    elif "gemm_dtype" in frame.columns:
        names = frame["gemm_dtype"].map(lambda _: "gemm")
    else:
        raise RoofprobeError(
            "missing-columns",
            f"{path} has neither op_name nor gemm_dtype nor table, so its operations cannot be "
            "told; add one of these columns",
        )
    for layout in LAYOUTS:
        # Of two layouts of one operation the one whose data types the table has.
        if layout.op_name and not (layout.widths and layout.dtype not in frame.columns):
            yield layout, (names == layout.op_name).to_numpy(dtype=bool)


def _latency(frame: pd.DataFrame, path: Path, op: str) -> pd.Series:

    if op == "grouped_gemm" and {"up_proj_us", "down_proj_us"} <= set(frame.columns):
        parts = [numeric(frame[n]) for n in ("up_proj_us", "down_proj_us")]
        return (parts[0] + parts[1]) * 1e-6
    for name, unit in LATENCY_S.items():
        if name in frame.columns:
            return numeric(frame[name]) * unit
    hint = " (a column latency has no unit: rename it)" if "latency" in frame.columns else ""
    raise RoofprobeError(
        "missing-columns",
        f"{path} has no time of {op}: it needs latency_ms or latency_us{hint}",
    )


def _points(
    frame: pd.DataFrame, layout: Layout, path: Path, gpu: str | None, notes: list[str]
) -> list[Points]:
    """Return the rows of one layout, cleaned and grouped."""
    import pandas as pd

    data = pd.DataFrame({"latency_s": _latency(frame, path, layout.op)})
    for name, values in _shape(frame, layout, path).items():
        data[name] = values
    names = forms.OP_CLASSES[layout.op].shape
    keys = {
        "framework": _text(frame, "framework"),
        "version": _text(frame, "version"),
        "kernel": _text(frame, "kernel_source").where(lambda text: text != "", layout.kernel or ""),
        "device": _devices(frame, path, gpu),
        "source": _text(frame, "source").where(lambda text: text != "", path.name),
    }
    for name, values in keys.items():
        data[name] = values
    row = forms.OP_CLASSES[layout.op]
    data["precision"] = _precisions(frame, layout, data, path)
    kv = _text(frame, layout.kv_dtype).map(lambda word: DTYPES.get(word, word))
    data["kv"] = kv.where(kv != "", data["precision"]) if row.kv else ""

    def drop(bad: pd.Series, why: str) -> None:
        nonlocal data
        if bad.any():
            notes.append(f"{path.name}: {int(bad.sum())} rows of {layout.op} {why}")
            data = data[~bad]

    numbers = data[["latency_s", *names]].astype(float)
    usable = numbers.gt(0).all(axis=1) & numbers.lt(float("inf")).all(axis=1)
    drop(~usable, "left out: no time, or no positive size")
    for name, plain in (("window_size", 0), ("beam_width", 1)):
        if name in frame.columns:
            other = numeric(frame[name]).reindex(data.index)
            drop(other.notna() & (other != plain), f"left out: {name} is not {plain}")
    for name, (meant, why) in ONLY.items():
        if name in frame.columns and layout.op in meant:
            words = _text(frame, name).reindex(data.index)
            drop(~words.str.endswith(meant[layout.op]), f"left out: {why}")
    known = data["precision"].isin(forms.FORMATS) & (
        data["kv"].eq("") | data["kv"].isin(forms.KV_BYTES)
    )
    unknown = ", ".join(sorted({str(word) or "none" for word in data.loc[~known, "precision"]}))
    drop(~known, f"left out: number formats not modelled ({unknown})")
    group = ["device", "framework", "version", "kernel", "precision", "kv"]
    drop(data.duplicated([*group, *names]), "are duplicates: the first of each counts")
    return [
        Points(
            op=layout.op,
            precision=str(key[4]),
            kv_precision=str(key[5]) or None,
            device=str(key[0]),
            framework=" ".join(word for word in (str(key[1]), str(key[2])) if word) or None,
            kernel=str(key[3]) or None,
            source=_common_source(rows["source"]),
            shape={name: rows[name].to_numpy(dtype=float) for name in names},
            latency_s=rows["latency_s"].to_numpy(dtype=float),
        )
        for key, rows in data.groupby(group, sort=True)
    ]


def _shape(frame: pd.DataFrame, layout: Layout, path: Path) -> dict[str, pd.Series]:
    """Return our shape keywords from columns, or from the numbers of ``shape_key``."""
    import pandas as pd

    found: dict[str, pd.Series] = {}
    missing: list[str] = []
    for name, expression in layout.shape.items():
        values = column(frame, expression)
        if name in layout.widths and values is not None:
            words = _text(frame, layout.dtype)
            values = values * words.map(lambda word: ELEMENT_BYTES.get(word, float("nan")))
        if values is None:
            missing += [c for c in re.split(r"[+*/]", expression) if c not in frame.columns]
        else:
            found[name] = values + layout.offsets.get(name, 0.0)
    if layout.key and not set(layout.key) <= set(frame.columns):
        if "shape_key" in frame.columns:
            parts = frame["shape_key"].astype(str).str.extractall(r"(\d+)")[0].unstack()
            for index, name in enumerate(layout.key):
                if index in parts.columns:
                    found[name] = numeric(parts[index])
        else:
            missing += [name for name in layout.key if name not in frame.columns]
    for name in layout.key:
        if name in frame.columns:
            found[name] = numeric(frame[name])
    if missing:
        raise RoofprobeError(
            "missing-columns",
            f"{path} lacks {', '.join(dict.fromkeys(missing))}, which {layout.op} needs",
        )
    for name in forms.OP_CLASSES[layout.op].shape:
        if name not in found:
            meant = found.get("nope_dim", MEANT.get(name)) if name == "v_dim" else MEANT.get(name)
            found[name] = pd.Series(meant, index=frame.index, dtype=float)
    return found


def _text(frame: pd.DataFrame, name: str | None) -> pd.Series:
    import pandas as pd

    if name is None or name not in frame.columns:
        return pd.Series("", index=frame.index)
    return frame[name].astype("object").where(frame[name].notna(), "").astype(str)


def _devices(frame: pd.DataFrame, path: Path, gpu: str | None) -> pd.Series:
    """Return the catalogue key of each row's GPU; raises where a row does not tell."""
    import pandas as pd

    where = _text(frame, "source") + "/" + _text(frame, "table")
    told = list(zip(_text(frame, "device"), _text(frame, "system"), where, strict=True))
    keys = {words: device_key(*words) or gpu for words in set(told)}
    unknown = sorted(words for words, key in keys.items() if key is None)
    if unknown:
        name = unknown[0][0] or unknown[0][1] or "no column device or system"
        raise RoofprobeError(
            "unknown-accelerator",
            f"{path} does not tell which GPU was timed ({name}); name it with --gpu NAME",
        )
    return pd.Series([keys[words] for words in told], index=frame.index)


def device_key(device: str, system: str = "", where: str = "") -> str | None:
    """Return the catalogue key of a driver name, a system name, or a folder of a source."""
    if device:
        match = identify(name=device)
        if match.accelerator is not None:
            return match.accelerator.key
    for word in (system, device):
        if word:
            if word.lower() in SYSTEMS:
                return SYSTEMS[word.lower()]
            try:
                return find(word).key
            except UnknownAcceleratorError:
                continue
    folders = [SYSTEMS[part] for part in where.lower().split("/") if part in SYSTEMS]
    return folders[0] if folders else None


def _precisions(frame: pd.DataFrame, layout: Layout, data: pd.DataFrame, path: Path) -> pd.Series:
    """Return each row's precision: as the table says, as its name says, or as its ``mfu`` tells."""
    import pandas as pd

    said = _text(frame, layout.dtype).map(lambda word: DTYPES.get(word, word))
    if "table" in frame.columns:
        named = frame["table"].map(
            lambda text: next((DTYPES[w] for w in words_of(str(text)) if w in DTYPES), "")
        )
        said = said.where(said != "", named)
    if (said != "").all():
        return said
    if layout.fixed_dtype is not None:
        return said.where(said != "", layout.fixed_dtype)
    told = pd.Series("", index=frame.index)
    if layout.op == "gemm" and "mfu" in frame.columns:
        flops = 2 * data["m"] * data["n"] * data["k"]
        peak = flops / data["latency_s"] / numeric(frame["mfu"]) / 1e12
        for key, rows in data.groupby("device"):
            told[rows.index] = _precision_of_peak(str(key), float(peak[rows.index].median()))
    said = said.where(said != "", told)
    if (said == "").all():
        raise RoofprobeError(
            "missing-columns",
            f"{path} does not tell the number format of {layout.op}: it needs "
            f"{layout.dtype or 'dtype'}",
        )
    return said


def _precision_of_peak(key: str, tflops: float) -> str:
    """Return the format whose dense peak a table's utilisation was computed with.

    FP8 tables with one time per shape are of block-scaled products (DeepGEMM).
    """
    accelerator = load()[key]
    for name, ours in (("bf16", "bf16"), ("fp8", "fp8-block")):
        peak = accelerator.headline_peak(name)
        if peak and abs(tflops / peak - 1) < _DTYPE_SHARE:
            return ours
    return ""


def _common_source(sources: pd.Series) -> str:
    """Return one locator for all rows: the only one, or what they begin with alike."""
    distinct = dict.fromkeys(str(text) for text in sources)
    if len(distinct) == 1:
        return next(iter(distinct))
    parts = [text.split("/") for text in distinct]
    alike = [words[0] for words in zip(*parts, strict=False) if len(set(words)) == 1]
    return "/".join(alike) or f"{len(distinct)} sources"
