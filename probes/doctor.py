"""Is this host ready to be measured: what is missing, what would spoil the figures, how to mend it.

Each check looks at one thing and says what it found (``figure``), what that means in a sentence,
and what to type. Nothing is changed: a command that would change a device or the host is only
named, as the user's own choice. A check that breaks says ``unknown``, so that no fault of one
hides the others.

Status: ``ok``; ``warn``, it can be measured, but figures are slower, noisier or fewer than they
could be; ``fail``, something that is there cannot be measured; ``unknown``, it could not be found
out. The checks stand in ``doctor_host``, ``doctor_gpus`` and ``doctor_devices``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from roofprobe.probes.doctor_devices import check_devices
from roofprobe.probes.doctor_gpus import check_driver, check_gpus, check_rocm
from roofprobe.probes.doctor_host import (
    check_clock,
    check_cpus,
    check_room,
    check_system,
    check_torch,
    check_triton,
)
from roofprobe.probes.doctor_scene import (
    Finding,
    Host,
    Scene,
    look_at_hardware,
    look_at_torch,
)
from roofprobe.probes.nvml import Nvml

Check = Callable[[Scene], Iterable[Finding]]

_CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("System", check_system),
    ("torch", check_torch),
    ("GPUs", check_gpus),
    ("NVIDIA driver", check_driver),
    ("ROCm device files", check_rocm),
    ("Triton", check_triton),
    ("Devices", check_devices),
    ("CPUs", check_cpus),
    ("Clock", check_clock),
    ("Room", check_room),
)


def examine(host: Host | None = None, out: Path = Path("reports")) -> tuple[Finding, ...]:
    """Look at everything and return what was found, the most basic things first."""
    host = host or Host()
    nvml = host.nvml()
    try:
        torch = look_at_torch(host)
        scene = Scene(host, nvml, torch, look_at_hardware(host, nvml), out)
        return tuple(finding for title, check in _CHECKS for finding in _run(title, check, scene))
    finally:
        if isinstance(nvml, Nvml):
            nvml.close()


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 if anything failed, else 3 if anything is unknown, else 0."""
    found = {finding.status for finding in findings}
    return 1 if "fail" in found else 3 if "unknown" in found else 0


def _run(title: str, check: Check, scene: Scene) -> list[Finding]:
    try:
        return list(check(scene))
    except Exception as error:  # see the module's docstring
        code = title.lower().replace(" ", "-")
        sentence = f"This check broke: {type(error).__name__}: {error}."
        return [Finding(code, title, "unknown", "?", sentence, "Please report it.")]
