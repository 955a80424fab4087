"""How a config says in which precision its checkpoint is stored.

``torch_dtype`` (or ``dtype``) names the precision of what ``quantization_config`` leaves alone.
Each way of quantising (``quant_method``) spells its facts differently; a row of `METHODS` reads
one. Which modules stay wide is kept as the config spells it, see `kept_wide`.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Mapping
from typing import Final

from roofprobe.costmodel.config_fields import Fields
from roofprobe.costmodel.model_shape import Checkpoint
from roofprobe.peaks.names import shown

DTYPES: Final = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "auto": "bf16",
}
# Precision of weights by (type, bits) as compressed-tensors spells them; blocks decide the rest.
_COMPRESSED: Final = {("float", 8): "fp8", ("int", 8): "int8", ("int", 4): "int4"}
_MODELOPT: Final = {
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8-block",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "MXFP4": "mxfp4",
    "MXFP8": "mxfp8",
    "W4A16_AWQ": "int4",
}
_INTEGERS: Final = {4: "int4", 8: "int8"}
# Of the regular expressions that name modules.
_LONGEST_EXPRESSION: Final = 400
_MOST_REPEATS: Final = 4


def read_checkpoint(fields: Fields, outer: Fields | None = None) -> Checkpoint:
    """The precision of a checkpoint; ``outer`` is the config around a text_config.

    Raises `RoofprobeError` for a way of quantising that is not known.
    """
    base = _base(fields) or (outer and _base(outer)) or "bf16"
    for place in (fields, outer):
        found = place.inner("quantization_config") if place else None
        if found:
            return _quantised(found, base, f"{fields.where}, quantization_config")
    return Checkpoint(precision=base, base=base)


def _base(fields: Fields) -> str | None:
    value = fields.raw("torch_dtype") or fields.raw("dtype")
    if value is None:
        return None
    name = value.removeprefix("torch.") if isinstance(value, str) else ""
    if name not in DTYPES:
        fields.fail(f"the dtype {shown(str(value))} is none of {', '.join(DTYPES)}")
    return DTYPES[name]


def _quantised(config: Mapping[str, object], base: str, where: str) -> Checkpoint:
    fields = Fields(config, where, {}, {})
    # Early checkpoints of ModelOpt name the algorithm only.
    method = fields.raw("quant_method") or ("modelopt" if "quant_algo" in config else None)
    if not isinstance(method, str) or method not in METHODS:
        fields.fail(
            f"the method {shown(str(method))} is not known (known: {', '.join(METHODS)}); remove "
            "quantization_config from the file and choose a precision instead"
        )
    return METHODS[method](fields, base)


def _kept(fields: Fields) -> tuple[str, ...]:
    names = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
    found = tuple(text for name in names for text in fields.texts(name))
    for text in found:
        if text.startswith("re:") and not _is_tame(text[3:]):
            fields.fail(f"{shown(text)} repeats too much for the name of a module")
        if text.startswith("re:") and not _compiled(text[3:]):
            fields.fail(f"{shown(text)} is not a valid regular expression")
    return found


def _block(fields: Fields, field: str) -> tuple[int, int] | None:
    value = fields.raw(field)
    if value is None:
        return None
    if (
        not isinstance(value, list | tuple)
        or len(value) != 2
        or not all(type(size) is int and 1 <= size <= 1_000_000 for size in value)
    ):
        fields.fail(f"{field!r} must be two whole numbers above 0")
    return value[0], value[1]


def _group(fields: Fields) -> tuple[int, int] | None:
    size = fields.optional("group_size", least=-1)
    return None if size is None else (1, max(size, 0))


def _fp8(fields: Fields, base: str) -> Checkpoint:
    block = _block(fields, "weight_block_size")
    return Checkpoint("fp8-block" if block else "fp8", base, _kept(fields), block)


def _mxfp4(fields: Fields, base: str) -> Checkpoint:
    return Checkpoint("mxfp4", base, _kept(fields))


def _integers(fields: Fields, base: str) -> Checkpoint:
    bits = fields.whole("bits", most=32)
    if bits not in _INTEGERS:
        fields.fail(f"{bits}-bit weights are not known, only {' and '.join(map(str, _INTEGERS))}")
    head = fields.flag("lm_head")
    return Checkpoint(_INTEGERS[bits], base, _kept(fields), _group(fields), head)


def _compressed(fields: Fields, base: str) -> Checkpoint:
    groups = fields.inner("config_groups") or {}
    found = {_compressed_weights(fields, group) for group in groups.values()}
    if len(found) != 1:
        fields.fail(f"it has {len(found)} different formats of weights, and one is understood")
    precision, block, zero_points = found.pop()
    return _by_exclusion(precision, base, _kept(fields), block, zero_points)


def _compressed_weights(fields: Fields, group: object) -> tuple[str, tuple[int, int] | None, bool]:
    """Precision, block and whether there are zero points, of one group of modules."""
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        fields.fail("a group in config_groups has no object 'weights'")
    inner = Fields(weights, f"{fields.where}, weights", {}, {})
    key = (str(inner.raw("type")), inner.whole("num_bits", most=32))
    if key == ("float", 4):
        return "mxfp4" if inner.raw("group_size") == 32 else "nvfp4", None, False
    if key not in _COMPRESSED:
        inner.fail(f"weights of type {shown(str(key[0]))} with {key[1]} bits are not known")
    precision = _COMPRESSED[key]
    block = _block(inner, "block_structure")
    if precision == "fp8":
        return "fp8-block" if block else "fp8", block, False
    return precision, _group(inner), not inner.flag("symmetric")


def _modelopt(fields: Fields, base: str) -> Checkpoint:
    algorithm = fields.raw("quant_algo")
    if not isinstance(algorithm, str) or algorithm not in _MODELOPT:
        fields.fail(f"quant_algo {shown(str(algorithm))} is none of {', '.join(_MODELOPT)}")
    return _by_exclusion(_MODELOPT[algorithm], base, _kept(fields), None, True)


def _by_exclusion(
    precision: str,
    base: str,
    kept: tuple[str, ...],
    block: tuple[int, int] | None,
    zero_points: bool,
) -> Checkpoint:
    """These methods narrow every linear module that they do not name, the head included."""
    head = not kept_wide(kept)("lm_head")
    return Checkpoint(precision, base, kept, block, head, zero_points)


METHODS: Final[Mapping[str, Callable[[Fields, str], Checkpoint]]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "mxfp4": _mxfp4,
    "gptq": _integers,
    "awq": _integers,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
}


@functools.lru_cache(maxsize=64)
def kept_wide(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a module ("model.layers.0.mlp.gate") is one that ``patterns`` keeps wide.

    A pattern names a module or anything that contains it: "lm_head", "mlp.gate", "model.visual";
    "*" and "?" are wildcards, "re:" begins a regular expression (compressed-tensors). A prefix
    before "model." (multimodal checkpoints) does not count.
    """
    plain = {text for text in patterns if not text.startswith("re:") and not set(text) & set("*?[")}
    plain |= {text.partition("model.")[2] for text in plain if "language_model." in text}
    globs = [
        fnmatch.translate(text.removeprefix("language_model.").rstrip("*") + "*")
        for text in patterns
        if not text.startswith("re:") and set(text) & set("*?[")
    ]
    expressions = [*globs, *(text[3:] for text in patterns if text.startswith("re:"))]
    compiled = [made for made in map(_compiled, expressions) if made]

    def kept(module: str) -> bool:
        parts = module.split(".")
        runs = (
            ".".join(parts[start:end])
            for start in range(len(parts))
            for end in range(start + 1, len(parts) + 1)
        )
        return any(run in plain for run in runs) or any(e.match(module) for e in compiled)

    return kept


def _compiled(expression: str) -> re.Pattern[str] | None:
    try:
        return re.compile(expression)
    except (re.error, OverflowError, RecursionError, ValueError):
        return None


def _is_tame(expression: str) -> bool:
    """Whether matching a module's name takes no time to speak of.

    Matching backtracks: a repeated group, or many repetitions in a row, take exponential time.
    Names of modules need neither.
    """
    repeats = re.findall(r"[*+}]", re.sub(r"\\.", "", expression))
    return (
        len(expression) <= _LONGEST_EXPRESSION
        and len(repeats) <= _MOST_REPEATS
        and not re.search(r"\)[*+?{]|\\[1-9]|\(\?P=", expression)
    )
