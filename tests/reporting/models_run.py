"""A made-up device with operations of language models, its calibration, and steps of a model.

Times follow from the work of each operation by one formula, and the calibration and the validation
are made from them by the real code. No figure is of a real device.
"""

from __future__ import annotations

from typing import Any

from roofprobe.costmodel import forms
from roofprobe.costmodel.calibrate import calibration_of_run
from roofprobe.costmodel.validation import validate
from roofprobe.records.schema import Case, Device, Distribution, Headline, Measurement, Run
from roofprobe.reporting.beside import Beside

DEVICE_ID = "GPU-22222222-models"
TFLOPS, GBPS, LAUNCH_US = 100.0, 1000.0, 4.0
_RATES = forms.Rates(TFLOPS * 1e12, GBPS * 1e9)
# Weights (n, k) of models of 0.6 to 8 billion parameters, heads, widths.
_WEIGHTS = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (128256, 4096),
            (4096, 1024), (6144, 1024), (1024, 3072), (151936, 1024), (1024, 2048))  # fmt: skip
_HEADS = ((32, 8, 128), (16, 8, 128))
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096)
_CACHES = ((1, 512), (1, 4096), (8, 1024), (32, 1024), (64, 4096), (128, 1024))
_PROMPTS = ((1, 128), (1, 1024), (1, 4096), (4, 1024), (8, 512))
_STEPS = (("prefill", 1, 128), ("prefill", 1, 512), ("decode", 1, 512), ("decode", 8, 1024))
_MODEL = {"layers": 4, "hidden": 1024, "heads": 16, "kv_heads": 8, "head_dim": 128, "inter": 3072,
          "vocab": 32000}  # fmt: skip


def models_run(example: Run, text: str = "Model device") -> tuple[Run, Beside]:
    """Return a run with such a device, called ``text``, and what lies beside it."""
    run = operations_run(example, text)
    calibration = calibration_of_run(run)
    # once to learn what is predicted, and again with times near it
    told = validate(run, calibration, source=text)
    off = {step.case_id: step.predicted_us * factor for step, factor in zip(
        told.steps, (0.8, 0.95, 1.05, 1.3), strict=True)}  # fmt: skip
    measured = tuple(
        m if m.case.case_id not in off else _measured(m.case, off[m.case.case_id])
        for m in run.measurements
    )
    run = run.model_copy(update={"measurements": measured})
    return run, Beside(calibration, validate(run, calibration, source=text))


def operations_run(example: Run, text: str = "Model device") -> Run:
    """Return a run of one device with layers, attention, rows, memory, and steps of a model."""
    device = Device(
        device_id=DEVICE_ID, torch_device="cuda:0", backend="cuda", name=text, uuid=DEVICE_ID,
        architecture=text, unit="SM", unit_count=100, memory_bytes=40 << 30,
    )  # fmt: skip
    sizes: list[tuple[str, str | None, dict[str, int]]] = [
        *(("gemm", None, {"m": m, "n": n, "k": k}) for n, k in _WEIGHTS for m in _TOKENS),
        *(("attention_prefill", "bf16", {"batch": b, "query_len": q, "kv_len": q, **_heads(h)})
          for h in _HEADS for b, q in _PROMPTS),
        *(("attention_decode", "bf16", {"batch": b, "kv_len": n, **_heads(h)})
          for h in _HEADS for b, n in _CACHES),
        *((op, None, {"rows": rows, "width": width})
          for op in ("rmsnorm", "rope", "silu_mul") for width in (1024, 4096)
          for rows in (1, 64, 1 << 18)),
    ]  # fmt: skip
    made = [_operation(op, kv, shape, number, text) for number, (op, kv, shape) in enumerate(sizes)]
    steps = [
        _measured(
            Case(
                case_id=f"validate/{phase}/{batch}x{length} {text}", family="validate", op=phase,
                precision="bf16", kv_precision="bf16", route="transformers", model=text,
                role="anchor", shape={**_MODEL, "batch": batch, "length": length},
            ),
            1000.0,
        )
        for phase, batch, length in _STEPS
    ]  # fmt: skip
    read = _measured(
        Case(case_id="read", family="memory", op="read", precision="fp32", route="triton",
             shape={"elements": 1 << 28}),
        1000.0,
    )  # fmt: skip
    rate = _times(GBPS, "GB/s")
    line = Headline(
        device_id=DEVICE_ID, family="memory", label=f"read {text}", title="read",
        precision="fp32", case_id="read", route="triton", regime="burst", rate=rate,
    )  # fmt: skip
    product = _measured(
        Case(case_id="product", family="compute", op="gemm", precision="bf16", route="torch.mm",
             shape={"m": 8192, "n": 8192, "k": 8192}),
        2 * 8192**3 / TFLOPS * 1e-6,
    )  # fmt: skip
    best = line.model_copy(
        update={
            "family": "compute", "label": "bf16", "title": "bf16", "precision": "bf16",
            "case_id": "product", "route": "torch.mm", "rate": _times(TFLOPS, "TFLOPS"),
        }
    )  # fmt: skip
    return example.model_copy(
        update={
            "devices": (device,), "measurements": (product, read, *made, *steps), "headlines":
            (best, line), "ceilings": (), "verdict": None, "planned": {}, "run_id": "models",
        }
    )  # fmt: skip


def _heads(sizes: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("heads", "kv_heads", "head_dim"), sizes, strict=True))


def _operation(
    op: str, kv: str | None, shape: dict[str, int], number: int, text: str
) -> Measurement:
    work = forms.count(op, "bf16", shape, _RATES, kv_precision=kv)
    flops, moved = float(work.flops), float(work.bytes)
    bound_us = max(flops / TFLOPS * 1e-6, moved / GBPS * 1e-3)
    us = bound_us * (1.2 + 0.02 * (number % 5)) + LAUNCH_US
    case = Case(
        case_id=f"llm/{op}/{number} {text}", family="llm", op=op, precision="bf16",
        kv_precision=kv, route="triton", role="anchor", shape=shape,
    )  # fmt: skip
    rate = _times(flops / us * 1e-6, "TFLOPS") if flops else _times(moved / us * 1e-3, "GB/s")
    return _measured(
        case, us, rate=rate, flops=int(flops) or None, bytes_read=int(moved), bytes_written=0,
    )  # fmt: skip


def _measured(case: Case, us: float, **fields: Any) -> Measurement:
    return Measurement(
        case=case, device_id=DEVICE_ID, status="ok", latency=_times(us, "us"), **fields
    )


def _times(median: float, unit: str) -> Distribution:
    return Distribution(
        unit=unit, median=median, ci_low=median * 0.99, ci_high=median * 1.01, p10=median * 0.98,
        p90=median * 1.02, best=median * 0.97, n=30,
    )  # fmt: skip
