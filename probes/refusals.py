"""Why a device rules a compute case out, whatever is installed and however much time there is.

What never can run was not left out for want of time: where the time budget is spent, this reason is
told first. It is the reason that the case itself would end with, and needs neither torch nor a
worker.
"""

from __future__ import annotations

from roofprobe.kernels import pipe, routes, rows
from roofprobe.kernels.work import Unsupported
from roofprobe.probes.backends import target_of
from roofprobe.records.schema import Case, Device, Reason


def refusal(case: Case, device: Device) -> Reason | None:
    """Return the reason why ``device`` cannot run ``case``, or None where it may or nobody knows.

    A search is ruled out where each route of its row is, by the reason of its own route.
    """
    if case.family != "compute" or case.row not in rows.BY_NAME:
        return None
    found = _refused(case, device)
    if found is None:
        return None
    return Reason(code=found.code, sentence=found.sentence, remedy=found.remedy)


def _refused(case: Case, device: Device) -> Unsupported | None:
    assert case.row is not None, case.case_id
    target = target_of(device)
    if case.op == "pipe":
        return pipe.refused_by_device(rows.BY_NAME[case.row], target)
    if case.route == "none" and case.row in routes.WITHOUT_ROUTE:
        sentence, remedy = routes.WITHOUT_ROUTE[case.row]
        return Unsupported("no-route", sentence, remedy)
    try:
        route = routes.route_named(case.row, case.route)
    except KeyError:
        return None
    others = routes.routes_for(case.row) if case.op == "search" else ()
    if any(routes.refused_by_device(other, target) is None for other in others):
        return None
    return routes.refused_by_device(route, target)
