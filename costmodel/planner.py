"""``roofprobe.plan``: from a model and a GPU, or a calibration, to what users will see.

    roofprobe.plan("llama-3.1-8b", gpu="H100 SXM", concurrency=64, input_len=2048, output_len=256)

One case is an object, a table of cases (``cases=``) a list of them; the keys are those of
``probe plan --json`` (`roofprobe.costmodel.plan`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from roofprobe.costmodel.calibration import Calibration, default_calibration, load_calibration
from roofprobe.costmodel.forms import OP_CLASSES
from roofprobe.costmodel.hardware import accelerator_of
from roofprobe.costmodel.plan import plan_all
from roofprobe.costmodel.plan_cases import BadCase, PlanCase, case_from, read_cases
from roofprobe.records.errors import RoofprobeError

Cases = str | os.PathLike[str] | Iterable[Mapping[str, Any]]


def plan(
    model: str | None = None,
    *,
    gpu: str | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    allow_approximate: bool = False,
    mixed: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Return what ``model`` does on ``gpu`` or by ``calibration``, for one case.

    ``options`` are the fields of `plan_cases.PlanCase`. ``mixed=False`` is for engines that run
    prompts in steps of their own. Raises ``RoofprobeError`` if the case cannot be planned.
    """
    chosen = choose_calibration(calibration, gpu)
    said = {"model": model, **options}
    return plan_from(None, said, chosen, allow_approximate=allow_approximate, mixed=mixed)[0]


def plan_cases(
    cases: Cases,
    *,
    gpu: str | None = None,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    allow_approximate: bool = False,
    mixed: bool = True,
    **defaults: Any,
) -> list[dict[str, Any]]:
    """Return one object per case of a CSV file or of mappings, in order.

    ``defaults`` stand in for what a case does not say. A case that cannot be planned has ``error``.
    Raises ``RoofprobeError`` for what is wrong with all of them.
    """
    chosen = choose_calibration(calibration, gpu)
    return plan_from(cases, defaults, chosen, allow_approximate=allow_approximate, mixed=mixed)


def plan_from(
    cases: Cases | None,
    said: Mapping[str, Any],
    calibration: Calibration,
    *,
    allow_approximate: bool = False,
    mixed: bool = True,
) -> list[dict[str, Any]]:
    """Return the objects of ``cases`` with ``said`` as defaults, or of the one case ``said``.

    Raises ``RoofprobeError`` if that one case cannot be planned.
    """
    read: list[PlanCase | BadCase]
    if cases is None:
        read = [case_from(said, {})]
    elif isinstance(cases, str | os.PathLike):
        read = read_cases(Path(cases), said)
    else:
        read = [case_from(case, said) for case in cases]
    found = plan_all(read, calibration, allow_approximate=allow_approximate, mixed=mixed)
    if cases is None and "error" in found[0]:
        raise RoofprobeError(found[0]["error"]["code"], found[0]["error"]["sentence"])
    words = basis(calibration)
    for one in found:
        one.setdefault("calibration", words)
    return found


# How a fit is known → what to say of it.
_BASES: Final = {
    "run": "measured by a run of this device", "op-table": "from op tables of this GPU",
    "published-fit": "from a published fit", "sibling": "carried over from its architecture",
    "generic": "carried over from another GPU",
}  # fmt: skip


def basis(calibration: Calibration) -> str:
    """Say which operations are timed by what, whose timings those are, and what they suffer."""
    origins = {one.key: one.origin for one in calibration.provenance}
    groups: dict[str, dict[str, None]] = {}
    for fit in calibration.device.ops:
        carried = [flag for flag in fit.flags if flag in ("sibling", "generic")]
        word = carried[0] if carried else str(origins.get(fit.provenance, "published-fit"))
        told = _BASES.get(word, word)
        if fit.framework and not carried:
            told += f" ({fit.framework})"
        groups.setdefault(told, {})[_class(fit.op)] = None
    parts = [f"{', '.join(ops)} {told}" for told, ops in groups.items()]
    sentences = [f"{calibration.hardware.name}: {'; '.join(parts)}."]
    sentences += [f"{note[:1].upper()}{note[1:]}." for note in calibration.device.notes]
    return " ".join(sentences)


def choose_calibration(
    calibration: Calibration | str | os.PathLike[str] | None, gpu: str | None
) -> Calibration:
    """Return the calibration to plan with: that of a file, or the default of a catalogue GPU.

    With both, the file's device that is that GPU. Raises ``RoofprobeError``: ``no-calibration``,
    ``other-device``, ``not-calibrated``, and what reading raises.
    """
    if isinstance(calibration, Calibration):
        return calibration
    if calibration is None:
        if gpu is None:
            raise RoofprobeError(
                "no-calibration",
                "Nothing says which device to plan for; name a measured one with --calibration "
                "FILE or a catalogue GPU with --gpu NAME.",
            )
        return default_calibration(gpu)
    path = Path(calibration)
    chosen = load_calibration(path) if gpu is None else _device_of(path, gpu)
    if not chosen.device.ops:
        raise RoofprobeError(
            "not-calibrated",
            f"{path} has no timed operation of {chosen.hardware.name}, only its ceilings; measure "
            "them with `probe llm`, or plan with --gpu NAME.",
        )
    return completed(chosen)


def completed(calibration: Calibration) -> Calibration:
    """Return ``calibration`` with the default fits of whole classes that it does not have.

    Op tables rarely time norms or collectives, without which no step adds up. Such fits carry
    their own flags and wide intervals. A precision that is missing in a class that was measured is
    not filled in, and a device that is not in the catalogue has no defaults.
    """
    key = calibration.hardware.catalogue_key
    if key is None:
        return calibration
    defaults = default_calibration(key)
    measured = {_class(fit.op) for fit in calibration.device.ops}
    more = tuple(fit for fit in defaults.device.ops if _class(fit.op) not in measured)
    device = calibration.device.model_copy(update={"ops": (*calibration.device.ops, *more)})
    return Calibration(device, (*calibration.provenance, *defaults.provenance))


def _class(op: str) -> str:
    """Return the class of ``op``: element-wise, collective, or its own."""
    return OP_CLASSES[op].kind or op


def _device_of(path: Path, gpu: str) -> Calibration:
    try:
        return load_calibration(path, device=gpu)
    except RoofprobeError as error:
        if error.code != "unknown-device":
            raise
    key = accelerator_of(gpu).key
    first = load_calibration(path)
    if first.hardware.catalogue_key == key:
        return first
    raise RoofprobeError(
        "other-device",
        f"{path} was calibrated on {first.hardware.name}, which is not {gpu}; leave --gpu out to "
        "plan for the calibrated device, or --calibration to plan for the other from its "
        "datasheet.",
    )
