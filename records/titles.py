"""What a line of the result is called: its label, which is stable, and its title, for people.

Both follow from the case alone, so that a record can be read where no kernel can be imported.
"""

from __future__ import annotations

from roofprobe.records.schema import Case

_FORMS = {"fp32": "FP32 (IEEE)", "fp16-acc16": "FP16, FP16 sums"}
_SCALINGS = {"rowwise": " row-wise", "blockwise": " 1x128/128x128 blocks"}


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
