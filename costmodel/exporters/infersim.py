"""InferSim: CSV tables of what share of the peak products, attention and experts reach.

    bench_data/gemm/<device>/data.csv                        m,k,n,latency_us,mfu
    bench_data/mha/{prefill,decode}/<device>/<h>-<h_kv>-<d>.csv
    bench_data/grouped_gemm/{prefill,decode}/<device>/data.csv
    models/<name>/config.json                                of presets, for --config-path

Only ``mfu`` is used, ``latency_us`` (microseconds) is for readers. Order matters: of a weight the
*last* row with m' ≤ m counts, and prefill tables are read until the first longer prompt, so rows
rise in k, n, m and in length. One table serves 16-bit and 8-bit products; where 8-bit ones were
timed they get a device of their own (``<device>_fp8``). Utilisation is defined as InferSim's own
benchmarks do: prefill attention counts half of the square.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from roofprobe.costmodel.exporters.checkpoint_configs import config_files
from roofprobe.costmodel.exporters.files import Export, csv_bytes, figures
from roofprobe.costmodel.exporters.subject import Subject, Timed, local_ops, timed
from roofprobe.costmodel.forms import FORMATS
from roofprobe.costmodel.models import MoeMlp

M: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PROMPTS: Final = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS: Final = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
# It rounds to three decimals and divides by the result.
_LEAST: Final = 0.001
_EIGHT_BITS: Final = ("fp8-block", "fp8")
# Of others (Mixtral) its reader does not find the experts.
_MODELS: Final = ("llama", "qwen2", "qwen3", "qwen3_moe")

_REGISTER: Final = '''\
"""Run InferSim on {name}: python run_infersim.py --device-type {device} --config-path …

Put bench_data/ into a clone of InferSim and run this file there. InferSim knows four devices by
name only, so this registers one more before it starts.
"""

import argparse
import os
import sys

sys.path.insert(0, os.getcwd())
from hardware import gpu

gpu.gpu_map.update({{
{rows}}})
_add = argparse.ArgumentParser.add_argument


def _any_device(self, *names, **options):
    if "--device-type" in names:
        options.pop("choices", None)
    return _add(self, *names, **options)


argparse.ArgumentParser.add_argument = _any_device
exec(compile(open("main.py").read(), "main.py", "exec"))
'''


def export(subject: Subject) -> Export:
    """Return the tables, and a script that registers the device in InferSim."""
    device, base = subject.label, subject.base
    eight = next((p for p in _EIGHT_BITS if p in subject.precisions("gemm")), None)
    files: dict[str, bytes] = {}
    done: list[Timed] = []
    for name, precision in ((device, base), (f"{device}_fp8", eight)):
        if precision is not None:
            for path, content, rows in _tables(subject, name, precision, base):
                files[path] = content
                done += rows
    files["run_infersim.py"] = _register(subject, eight).encode()
    files.update(config_files(subject, _MODELS))
    measured = sum(int(rows.measured.sum()) for rows in done)
    return Export(files, measured, sum(len(rows) for rows in done) - measured)


# A path, its content, and the times in it.
_Table = tuple[str, bytes, list[Timed]]


def _tables(subject: Subject, device: str, precision: str, base: str) -> Iterator[_Table]:
    yield _gemm(subject, device, precision)
    yield from _prefill(subject, device, base)
    yield from _decode(subject, device, base)
    if precision in subject.precisions("grouped_gemm"):
        for phase in ("prefill", "decode"):
            found = _experts(subject, device, precision, phase)
            if found is not None:
                yield found


def _mfu(flops: np.ndarray, seconds: np.ndarray, peak: float) -> list[float]:
    return [figures(max(_LEAST, value)) for value in flops / seconds / peak]


def _order(*keys: np.ndarray) -> np.ndarray:
    """Return the order of rows by the first key, then the second, and so on."""
    return np.lexsort(keys[::-1])


def _gemm(subject: Subject, device: str, precision: str) -> _Table:
    sites = list(local_ops(subject, "gemm"))
    shape = {
        "m": np.tile(M, len(sites)),
        **{name: np.repeat([site[name] for site in sites], len(M)) for name in ("n", "k")},
    }
    rows = timed(subject, "gemm", precision, shape)
    m, n, k = (rows.shape[name] for name in ("m", "n", "k"))
    peak = subject.calibration.hardware.peak_flops[FORMATS[precision].peak]
    mfu = _mfu(2 * m * n * k, rows.seconds, peak)
    lines = [
        (int(m[i]), int(k[i]), int(n[i]), figures(rows.seconds[i] * 1e6), mfu[i])
        for i in _order(k, n, m)
    ]
    path = f"bench_data/gemm/{device}/data.csv"
    return path, csv_bytes(("m", "k", "n", "latency_us", "mfu"), lines), [rows]


def _prefill(subject: Subject, device: str, base: str) -> Iterator[_Table]:
    if (base, base) not in subject.kv_pairs("attention_prefill"):
        return
    peak = subject.calibration.hardware.peak_flops[FORMATS[base].peak]
    for site in local_ops(subject, "attention_prefill"):
        length = np.array(PROMPTS, dtype=float)
        shape = {"batch": 1.0, "query_len": length, "kv_len": length, **site}
        rows = _of_site(timed(subject, "attention_prefill", base, shape, base), site)
        keep = (rows.shape["batch"] == 1) & (rows.shape["query_len"] == rows.shape["kv_len"])
        rows = rows.where(keep)
        s = rows.shape["query_len"]
        mfu = _mfu(2 * site["heads"] * site["head_dim"] * s * s, rows.seconds, peak)
        lines = [("bf16", int(s[i]), figures(rows.seconds[i] * 1e6), mfu[i]) for i in _order(s)]
        path = f"bench_data/mha/prefill/{device}/{_geometry(site)}.csv"
        yield path, csv_bytes(("dtype", "seq_len", "latency_us", "mfu"), lines), [rows]


def _decode(subject: Subject, device: str, base: str) -> Iterator[_Table]:
    peak = subject.calibration.hardware.peak_flops[FORMATS[base].peak]
    pairs = [pair for pair in subject.kv_pairs("attention_decode") if pair[0] == base]
    for site in local_ops(subject, "attention_decode"):
        lines: list[Sequence[Any]] = []
        done: list[Timed] = []
        for _, kv in pairs:
            batch, context = (axis.ravel() for axis in np.meshgrid(BATCHES, CONTEXTS))
            shape = {"batch": batch, "kv_len": context, **site}
            rows = _of_site(timed(subject, "attention_decode", base, shape, kv), site)
            b, s = rows.shape["batch"], rows.shape["kv_len"]
            mfu = _mfu(4 * site["heads"] * site["head_dim"] * b * s, rows.seconds, peak)
            word = "fp8" if kv in ("fp8", "int8") else "bf16"
            lines += [
                ("bf16", word, int(b[i]), int(s[i]), figures(rows.seconds[i] * 1e6), mfu[i])
                for i in _order(b, s)
            ]
            done.append(rows)
        if done:
            path = f"bench_data/mha/decode/{device}/{_geometry(site)}.csv"
            header = ("dtype", "kv_dtype", "batch_size", "kv_len", "latency_us", "mfu")
            yield path, csv_bytes(header, lines), done


def _experts(subject: Subject, device: str, precision: str, phase: str) -> _Table | None:
    """Return experts as InferSim looks them up: by experts, GPUs, and tokens per GPU.

    The calibrated operation is the whole layer, so both products have its utilisation.
    """
    peak = subject.calibration.hardware.peak_flops[FORMATS[precision].peak]
    length = "seq_len_per_gpu" if phase == "prefill" else "batch_size_per_gpu"
    tokens = M[7:] if phase == "prefill" else M[:10]
    lines: list[Sequence[Any]] = []
    done: list[Timed] = []
    for model in subject.models:
        mlp = next((x.mlp for x in model.layer_sequence if isinstance(x.mlp, MoeMlp)), None)
        if mlp is None:
            continue
        for gpus in subject.degrees:
            if mlp.experts % gpus:
                continue
            site = {
                "experts": float(mlp.experts), "topk": float(mlp.topk),
                "hidden": float(model.hidden), "inter": float(mlp.inter),
                "local_experts": mlp.experts / gpus,
            }  # fmt: skip
            shape = {"tokens": np.array(tokens, dtype=float) * gpus, **site}
            rows = _of_site(timed(subject, "grouped_gemm", precision, shape), site)
            rows = rows.where(rows.shape["tokens"] % gpus == 0)
            t = rows.shape["tokens"]
            pairs = t * mlp.topk / gpus
            mfu = _mfu(6 * pairs * model.hidden * mlp.inter, rows.seconds, peak)
            up = rows.seconds * 1e6 * 2 / 3
            lines += [
                (mlp.experts, gpus, mlp.experts // gpus, mlp.topk, model.hidden, mlp.inter,
                 int(t[i] / gpus), int(np.ceil(pairs[i] / site["local_experts"])),
                 figures(up[i]), mfu[i], figures(up[i] / 2), mfu[i])
                for i in _order(t)
            ]  # fmt: skip
            done.append(rows)
    if not done:
        return None
    header = (
        "num_experts", "num_gpus", "num_local_experts", "topk", "hidden_size",
        "intermediate_size", length, "tokens_per_expert", "up_proj_us", "up_mfu", "down_proj_us",
        "down_mfu",
    )  # fmt: skip
    path = f"bench_data/grouped_gemm/{phase}/{device}/data.csv"
    return path, csv_bytes(header, lines), done


def _geometry(site: dict[str, float]) -> str:
    return f"{site['heads']:.0f}-{site['kv_heads']:.0f}-{site['head_dim']:.0f}"


def _of_site(rows: Timed, site: dict[str, float]) -> Timed:
    """Return the rows of one site; measured rows of others come along with any question."""
    own = np.all([rows.shape[name] == value for name, value in site.items()], axis=0)
    return rows.where(own)


def _register(subject: Subject, eight: str | None) -> str:
    hardware = subject.calibration.hardware
    assert hardware.bandwidth is not None, "it could not be timed without"
    base = hardware.peak_flops[subject.base] / 1e12
    fp8 = hardware.peak_flops.get("fp8", 2 * hardware.peak_flops[subject.base]) / 1e12
    link = (hardware.link or 64e9) / 1e9
    row = (
        f"gpu.GPU(fp16_tflops={base:g}, fp8_tflops={fp8:g}, mfu=0.5, "
        f"mem={(hardware.memory_bytes or 0) / 2**30:.4g}, mem_bw={hardware.bandwidth / 1e9:g} * "
        f"0.8, nvlink_bw={link:g} * 0.8, rdma_bw=50 * 0.8)"
    )
    names = [subject.label, *([f"{subject.label}_fp8"] if eight else [])]
    rows = "".join(f'    "{name}": {row},\n' for name in names)
    return _REGISTER.format(name=hardware.name, device=subject.label, rows=rows)
