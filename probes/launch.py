"""The launch probe: what a kernel costs before it computes anything.

Small batches of a language model are hundreds of short kernels per token, and then these fixed
times decide, not the arithmetic. Each row says what is timed: a launch that is waited for, the call
alone, launches back to back in a stream, nodes of a graph (``kernels/launches.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.kernels import launches
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes.session import Session
from roofprobe.probes.timers import Timer, launch_timer
from roofprobe.records.schema import Case, Device, Options

FAMILY = "launch"


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield every row of the table; a device without streams or graphs skips some with a reason."""
    for row in launches.ROWS:
        yield Case(
            case_id=f"launch/{row.name}",
            family="launch",
            op="launch",
            precision="none",
            route=row.name,
            shape={},
        )


def prepare(case: Case, session: Session) -> tuple[Work, Timer]:
    """Make the launch of ``case`` and choose what times it; raises ``Unsupported``."""
    row = launches.BY_NAME[case.route]
    work = launches.prepare(row.name, session.target)
    timer = launch_timer(row.timed, session.timer)
    if timer is None:
        raise Unsupported("no-timer", f"nothing on this device times {row.meaning}")
    return work, timer
