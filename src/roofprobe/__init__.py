"""roofprobe: what a GPU really reaches, beside its datasheet, and what that means.

The rooms are sub-packages: ``kernels`` (work a device does), ``peaks`` (what it should do),
``records`` (what was measured), ``probes`` (measuring), ``costmodel`` (what follows for a language
model), ``acceptance`` (is it what it claims to be), ``reporting`` (what people look at).
Importing this package loads neither torch, Triton, pandas nor NVML and touches no device; what it
offers besides its version is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roofprobe.costmodel.device_times import load_calibration
    from roofprobe.costmodel.planner import plan, plan_cases

__version__ = "0.1.0"

__all__ = ["__version__", "load_calibration", "plan", "plan_cases"]

# What is offered, and the module that has it.
_HOMES = {
    "load_calibration": "roofprobe.costmodel.device_times",
    "plan": "roofprobe.costmodel.planner",
    "plan_cases": "roofprobe.costmodel.planner",
}


def __getattr__(name: str) -> Any:
    """Load what is offered when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
