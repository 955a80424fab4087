"""The precisions that roofprobe knows, and which printed peak each one is held against.

A "precision" is the format of a matmul's inputs together with the width of its accumulator: the
FP16 peak with an FP32 accumulator and the one with an FP16 accumulator differ by a factor of two on
some cards, so ``fp16`` and ``fp16-acc16`` are two rows. Formats that exist on an ordinary pipe and
on a matrix unit have two peaks (``vector``, ``tensor``).

The *headline* peak is the one that a matrix product is held against: the tensor peak wherever the
architecture has a tensor rate. Where only the vector peak is published for such a device, a product
would beat it without anything being wrong, so there is no headline and the percentage is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Pipe = Literal["vector", "tensor"]

# Block-scaled formats run only where the hardware applies the scales. NVFP4 is NVIDIA's own; the
# FP4 of gfx950 is MXFP4. A GeForce of capability 12.0 halves plain FP8 but not MXFP8, so its FP8
# peak is no ceiling for MXFP8 and the class is left out there.
_MXFP8_CLASSES: Final = frozenset({"sm_100", "sm_103", "sm_120", "gfx950"})
_NVFP4_CLASSES: Final = frozenset({"sm_100", "sm_103", "sm_120", "sm_120_geforce"})

# Huawei's FP16 headline adds the cube and the vector unit. A matmul runs on the cube alone, whose
# FP16 and BF16 rates are the same, and only the BF16 figure is printed for it.
_HEADLINE_OVERRIDES: Final = MappingProxyType({("dav_c220", "fp16"): "bf16_tensor"})


@dataclass(frozen=True, slots=True)
class Precision:
    """One row of the table of precisions.

    ``unit`` is that of its peaks, ``bits`` the width of an input element, ``accumulator`` the type
    in which products are summed, ``peak_keys`` the catalogue key per pipe, and ``rate_classes`` the
    rate classes whose hardware has the format (``None``: any that prints a peak for it).
    """

    name: str
    title: str
    unit: Literal["TFLOPS", "TOPS"]
    bits: int
    accumulator: str
    peak_keys: Mapping[Pipe, str]
    rate_classes: frozenset[str] | None = None


PRECISIONS: Final[tuple[Precision, ...]] = (
    Precision("fp64", "FP64", "TFLOPS", 64, "fp64", {"vector": "fp64", "tensor": "fp64_tensor"}),
    Precision("fp32", "FP32", "TFLOPS", 32, "fp32", {"vector": "fp32", "tensor": "fp32_matrix"}),
    Precision("tf32", "TF32", "TFLOPS", 32, "fp32", {"tensor": "tf32"}),
    Precision(
        "bf16", "BF16", "TFLOPS", 16, "fp32", {"vector": "bf16_vector", "tensor": "bf16_tensor"}
    ),
    Precision(
        "fp16", "FP16", "TFLOPS", 16, "fp32", {"vector": "fp16_vector", "tensor": "fp16_tensor"}
    ),
    Precision(
        "fp16-acc16",
        "FP16, FP16 accumulate",
        "TFLOPS",
        16,
        "fp16",
        {"tensor": "fp16_tensor_fp16acc"},
    ),
    Precision("fp8", "FP8 (E4M3)", "TFLOPS", 8, "fp32", {"tensor": "fp8_tensor"}),
    Precision("int8", "INT8", "TOPS", 8, "int32", {"tensor": "int8"}),
    Precision("mxfp8", "MXFP8", "TFLOPS", 8, "fp32", {"tensor": "fp8_tensor"}, _MXFP8_CLASSES),
    Precision("nvfp4", "NVFP4", "TFLOPS", 4, "fp32", {"tensor": "fp4_tensor"}, _NVFP4_CLASSES),
    Precision("int4", "INT4", "TOPS", 4, "int32", {"tensor": "int4"}),
)

BY_NAME: Final[Mapping[str, Precision]] = MappingProxyType({p.name: p for p in PRECISIONS})
NAMES: Final[tuple[str, ...]] = tuple(BY_NAME)

# Every peak key that a catalogue row or a rate class may use, with the words for people.
PEAK_TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fp64": "FP64 vector",
        "fp64_tensor": "FP64 tensor",
        "fp32": "FP32 vector",
        "fp32_vector": "FP32 vector alone",
        "fp32_packed": "FP32 packed",
        "fp32_matrix": "FP32 matrix",
        "tf32": "TF32 tensor",
        "fp16_vector": "FP16 vector",
        "bf16_vector": "BF16 vector",
        "bf16_tensor": "BF16 tensor",
        "fp16_tensor": "FP16 tensor",
        "fp16_tensor_fp16acc": "FP16, FP16 acc.",
        "fp16_cube_only": "FP16 cube alone",
        "fp8_tensor": "FP8 tensor",
        "fp8_tensor_fp16acc": "FP8, FP16 acc.",
        "fp6_tensor": "FP6 tensor",
        "fp4_tensor": "FP4 tensor",
        "int8": "INT8 tensor",
        "int4": "INT4 tensor",
    }
)

_VECTOR_KEYS: Final = frozenset(
    {"fp64", "fp32", "fp32_vector", "fp32_packed", "fp16_vector", "bf16_vector"}
)


def precision(name: str) -> Precision:
    """The row of a precision name; raises `KeyError` naming the known ones."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise KeyError(f"unknown precision {name!r}; known: {', '.join(NAMES)}") from None


def peak_unit(key: str) -> Literal["TFLOPS", "TOPS"]:
    """Unit of a peak key: 1e12 floating-point (``TFLOPS``) or integer (``TOPS``) operations/s."""
    return "TOPS" if key.startswith("int") else "TFLOPS"


def is_vector_key(key: str) -> bool:
    """Whether a peak key belongs to the ordinary pipe and not to a tensor, matrix or cube unit."""
    return key in _VECTOR_KEYS


def pipe_key(name: str, pipe: Pipe, available: Collection[str]) -> str | None:
    """The key of a precision's peak on one pipe, if ``available`` has it.

    Ascend prints FP32 for cube and vector together; its vector unit alone is ``fp32_vector``, which
    is taken for the vector pipe where it is available.
    """
    if name == "fp32" and pipe == "vector" and "fp32_vector" in available:
        return "fp32_vector"
    key = precision(name).peak_keys.get(pipe)
    return key if key in available else None


def headline_key(
    name: str,
    available: Collection[str],
    *,
    rates: Mapping[str, float] | None = None,
    rate_class: str | None = None,
) -> str | None:
    """The key of the peak that a matrix product of this precision is held against, or ``None``.

    ``available`` are the peak keys at hand (published or derived), ``rates`` the operations per
    clock per unit of the device's rate class, which tell whether it has a tensor pipe whose peak is
    merely not published; ``rate_class`` is that class's name. Raises `KeyError` for an unknown
    precision.
    """
    row = precision(name)
    if row.rate_classes is not None and rate_class not in row.rate_classes:
        return None
    override = _HEADLINE_OVERRIDES.get((rate_class or "", name))
    if override is not None:
        return override if override in available else None
    tensor, vector = row.peak_keys.get("tensor"), row.peak_keys.get("vector")
    if tensor in available:
        return tensor
    if name not in ("fp64", "fp32") or vector not in available:
        return None  # the 16-bit vector pipe is not what a matrix product runs on
    tensor_rate = (rates or {}).get(tensor or "")
    if tensor_rate is not None and tensor_rate != (rates or {}).get(vector or ""):
        return None
    return vector
