"""Asking NVML one question at a time, so that each that has no answer keeps its own reason.

Drivers, boards, permissions and bindings differ in what they answer. Whatever goes wrong with a
question becomes a reason; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from roofprobe.probes.nvml_facts import reason_code
from roofprobe.probes.nvml_readers import NotTold

T = TypeVar("T")
Call = tuple[Any, ...]  # the name of an NVML function and its arguments
Question = tuple[Any, ...]  # a field, its reader, the name of an NVML function, further arguments

ERROR_CODES: Final[dict[int, str]] = {
    1: "uninitialized",
    2: "invalid-argument",
    3: "not-supported",
    4: "no-permission",
    6: "not-found",
    9: "driver-not-loaded",
    10: "timeout",
    12: "library-not-found",
    13: "function-not-found",
    15: "gpu-is-lost",
    16: "reset-required",
    17: "operating-system",
    18: "version-mismatch",
    22: "not-supported",
    25: "version-mismatch",
    26: "deprecated",
    28: "gpu-not-found",
}
_ASK_ANOTHER_WAY: Final = frozenset(
    {"function-not-found", "binding-too-old", "not-supported", "invalid-argument", "deprecated",
     "version-mismatch"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned, or the reason why it did not."""

    value: Any
    reason: str | None = None
    call: str = ""


class Interview:
    """Asks questions one by one and keeps the reason of each that has no answer."""

    def __init__(self, module: Any) -> None:
        """Ask ``module``, which is ``pynvml`` or stands in for it."""
        self._module = module
        self.missing: dict[str, str] = {}

    def call(self, *calls: Call) -> Answer:
        """Return the answer to the first of these calls that has one."""
        return first_answer(self._module, *calls)

    def one(self, name: str, reader: Callable[[Any], T], *calls: Call) -> T | None:
        """Return the one value that a call gives."""
        return self.read(name, self.call(*calls), reader)

    def table(self, about: Call, questions: Sequence[Question]) -> dict[str, Any]:
        """Return field by field what one call each tells ``about`` a handle (or nothing)."""
        return {
            name: self.one(name, reader, (call, *about, *arguments))
            for name, reader, call, *arguments in questions
        }

    def leave_out(self, names: Sequence[str]) -> dict[str, Any]:
        """Return these fields as not asked for."""
        self.missing.update(dict.fromkeys(names, "not-asked"))
        return dict.fromkeys(names)

    def read(self, name: str, answer: Answer, reader: Callable[[Any], T]) -> T | None:
        """Return one value out of an answer; note under ``name`` why there is none."""
        reason = answer.reason
        if reason is None:
            try:
                return reader(answer.value)
            except NotTold:
                reason = f"not-told ({answer.call})"
            except Exception:  # a driver or binding that answers in another shape
                reason = f"unreadable ({answer.call})"
        self.missing[name] = reason
        return None


def call(module: Any, name: str, *arguments: Any) -> Answer:
    """Ask one question; whatever goes wrong becomes a reason."""
    try:
        return Answer(getattr(module, name)(*arguments), call=name)
    except Exception as error:  # NVML errors, old bindings, broken libraries: see _error_code
        return Answer(None, f"{_error_code(error)} ({name})")


def first_answer(module: Any, *calls: Call) -> Answer:
    """Ask in newer and older ways; keep the first reason that says more than "too old"."""
    reasons: list[str] = []
    for name, *arguments in calls:
        answer = call(module, name, *arguments)
        if answer.reason is None:
            return answer
        reasons.append(answer.reason)
        if reason_code(answer.reason) not in _ASK_ANOTHER_WAY:
            break
    too_old = ("function-not-found", "binding-too-old")
    telling = [reason for reason in reasons if reason_code(reason) not in too_old]
    return Answer(None, (telling or reasons)[0])


def _error_code(error: Exception) -> str:
    number = getattr(error, "value", None)
    if isinstance(number, int):
        return ERROR_CODES.get(number, f"nvml-error-{number}")
    if type(error).__name__ == "NVMLLibraryMismatchError":
        return "function-not-found"
    if isinstance(error, AttributeError | TypeError):
        return "binding-too-old"
    return f"failed-{type(error).__name__}"


def field_answer(reading: Any, number: int) -> Answer:
    """Return a field's reading as an answer of its own: it has its own return code."""
    call = f"nvmlDeviceGetFieldValues[{number}]"
    code = 2 if reading is None else int(reading.nvmlReturn)
    if code:
        return Answer(None, f"{ERROR_CODES.get(code, f'nvml-error-{code}')} ({call})")
    return Answer(reading, call=call)
