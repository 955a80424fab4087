"""What a line of the result is called: its label, which is stable, and its title, for people.

Both follow from the case alone, so that a record can be read where no kernel can be imported.
"""

from __future__ import annotations

from roofprobe.records.schema import Case

_FORMS = {"fp32": "FP32 (IEEE)", "fp16-acc16": "FP16, FP16 sums"}
_SCALINGS = {"rowwise": " row-wise", "blockwise": " 1x128/128x128 blocks"}


# Operation of a language model → what its lines are called, and the size and the least of it from
# which arithmetic is what usually limits it. The other operations have no lines of their own.
_MODEL_WORK: dict[str, tuple[str, str, int]] = {
    "gemm": ("GEMM", "m", 256),
    "attention_prefill": ("attention", "query_len", 1),
    "attention_decode": ("attention", "query_len", 1),
    "mla_prefill": ("MLA", "query_len", 1),
    "mla_decode": ("MLA", "query_len", 1),
    "grouped_gemm": ("experts", "tokens", 256),
}


def is_arithmetic(case: Case) -> bool:
    """Return whether a model's operation is told in operations per second, not in bytes.

    Products of many rows and prefill are bound by arithmetic; decoding and what works row by row by
    the stream of their operands.
    """
    if case.family != "llm" or case.op not in _MODEL_WORK:
        return False
    _, size, least = _MODEL_WORK[case.op]
    return case.shape.get(size, 0) >= least


def has_line(case: Case) -> bool:
    """Return whether a case may be a line of the result: of a model's operations only the large."""
    return case.family != "validate" and (case.family != "llm" or case.op in _MODEL_WORK)


def label_of(case: Case) -> str:
    """Return the name of the line that a case competes for.

    The compute row (``fp8-rowwise``), or for a case of an older run its precision; a memory kernel
    with its element type (``copy fp32``; the copy engine apart).
    """
    if case.family == "compute":
        if case.row is not None:
            return case.row
        return case.precision + (f" {case.sparsity} sparse" if case.sparsity else "")
    if case.family == "interconnect":
        far = " far" if case.config == "far" else ""
        ranks = f" x{case.shape['ranks']}" if "ranks" in case.shape else ""
        peer = f" to {case.peer.torch_device}" if case.peer else ""
        return f"{case.op if ranks else case.route}{ranks}{far}{peer}"
    if case.family == "llm" and case.op in _MODEL_WORK:
        phase = "prefill" if is_arithmetic(case) else "decode"
        cache = (
            f", {case.kv_precision} KV" if case.kv_precision not in (None, case.precision) else ""
        )
        return f"{phase} {_MODEL_WORK[case.op][0]} {case.precision}{cache}"
    engine = " (copy engine)" if case.engine == "copy-engine" else ""
    return f"{case.op} {case.precision}{engine}"


def title_of(case: Case) -> str:
    """Return the words for the line of a case: ``FP8 row-wise, fast sums``."""
    if case.op == "l2-read":
        return f"L2 read {case.precision}"
    if case.family != "compute":
        return label_of(case)
    # a processor's ordinary products run on its vector pipe too, in rows of plain precisions
    if case.pipe == "vector" and case.row != case.precision:
        return f"{case.precision.upper()}, vector pipe"
    title = _FORMS.get(case.precision, case.precision.upper())
    title += _SCALINGS.get(case.scaling or "", "")
    if case.sparsity:
        return f"{title}, {case.sparsity} sparse-equivalent"
    return f"{title}, fast sums" if case.fast_accum else title
