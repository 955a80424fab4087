"""Model shapes by name, or from any Hugging Face config.json: the way in for the whole cost model.

A name is a preset ("llama-3.1-8b") or one of the hub ids that it lists, compared exactly once case
and separators are put aside: a fine-tune with a similar name may have other sizes. Only sizes are
read, never weights, and nothing from the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from roofprobe.costmodel.model_config import read_config
from roofprobe.costmodel.model_presets import find_preset, near_presets, preset_names
from roofprobe.costmodel.model_shape import (
    Attention,
    Checkpoint,
    DenseMlp,
    EncoderShape,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    Mlp,
    ModelShape,
    MoeMlp,
)
from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import TooLarge, is_folder, json_document, read_bytes

__all__ = [
    "Attention",
    "Checkpoint",
    "DenseMlp",
    "EncoderShape",
    "GroupedQueryAttention",
    "LatentAttention",
    "Layer",
    "Mlp",
    "ModelShape",
    "MoeMlp",
    "load_model",
    "preset_names",
]

#: A config.json is a few kilobytes, with every module named in it some hundred.
LARGEST_CONFIG_BYTES: Final = 16_000_000


def load_model(
    model: str | Path | Mapping[str, object], *, allow_approximate: bool = False
) -> ModelShape:
    """The shape of a preset, of a config.json (the file or its folder), or of a parsed config.

    With ``allow_approximate`` an architecture that is not known is read as a dense decoder and
    marked so. Raises `RoofprobeError` for an unknown name (with near ones), a file that is no
    config, and sizes that are missing or contradict each other.
    """
    if isinstance(model, Mapping):
        return read_config(model, name="config", allow_approximate=allow_approximate)
    preset = find_preset(str(model))
    if preset is not None:
        return read_config(preset.config, name=preset.name, source=preset.source)
    path = Path(model)
    if not str(model).strip() or not _exists(path):
        raise _unknown(str(model))
    file = path / "config.json" if is_folder(path) else path
    return read_config(
        _read(file),
        name=file.resolve().parent.name if file.name == "config.json" else file.stem,
        source=str(file),
        allow_approximate=allow_approximate,
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or with a null in it
        return False


def _unknown(name: str) -> RoofprobeError:
    near = near_presets(name)
    advice = (
        f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(preset_names())}."
    )
    return RoofprobeError(
        "unknown-model",
        f"No model is called {shown(name)}, and no such file or folder exists; {advice} "
        "Any other model can be given as its config.json.",
    )


def _read(file: Path) -> dict[str, object]:
    config = _read_object(file)
    beside = file.with_name("hf_quant_config.json")
    if "quantization_config" not in config and beside.exists():
        # Checkpoints of NVIDIA's ModelOpt say how they are quantised in a file of their own.
        stored = _read_object(beside).get("quantization")
        if isinstance(stored, dict):
            config["quantization_config"] = {"quant_method": "modelopt", **stored}
    return config


def _read_object(file: Path) -> dict[str, object]:
    try:
        document = json_document(read_bytes(file, LARGEST_CONFIG_BYTES))
    except TooLarge:
        raise RoofprobeError(
            "bad-model", f"{file} is too large for a model's config.json."
        ) from None
    except OSError as error:
        raise RoofprobeError(
            "bad-model", f"{file} cannot be read: {error.strerror or error}."
        ) from error
    except ValueError as error:
        raise RoofprobeError(
            "bad-model",
            f"{file} is not JSON, so it is no model's config.json ({shown(str(error))}).",
        ) from error
    if not isinstance(document, dict):
        raise RoofprobeError(
            "bad-model", f"{file} holds no JSON object, so it is no model's config.json."
        )
    return document
