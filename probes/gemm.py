"""Make the work of a compute case: a product on rotated buffers, or the pipe alone."""

from __future__ import annotations

from roofprobe.kernels import matmul, pipe, routes
from roofprobe.kernels.operands import PATTERNS
from roofprobe.kernels.rows import BY_NAME
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes.session import Session
from roofprobe.records.schema import Case

Shape = tuple[int, int, int]
OPERATIONS = ("gemm", "stability", "search", "pipe")


def prepare(case: Case, session: Session) -> Work:
    """Return the work of ``case``; raises ``Unsupported`` with the reason when it cannot be done.

    A row without a route is refused with what it would take; then route, shape and layout are held
    against the device before any memory is taken.
    """
    assert case.row is not None, case.case_id
    if case.op not in OPERATIONS:
        raise Unsupported("unknown-work", f"this version does not know the work {case.op!r}")
    if case.op == "pipe":
        session.arenas.drop()
        return pipe.prepare(BY_NAME[case.row], session.target)
    if case.route == "none" and case.row in routes.WITHOUT_ROUTE:
        sentence, remedy = routes.WITHOUT_ROUTE[case.row]
        raise Unsupported("no-route", sentence, remedy)
    m, n, k = (case.shape[axis] for axis in ("m", "n", "k"))
    try:
        route = routes.route_named(case.row, case.route)
    except KeyError as error:
        raise Unsupported("unknown-route", str(error.args[0])) from error
    return product(case, session, route, (m, n, k))


def product(case: Case, session: Session, route: routes.MatmulRoute, shape: Shape) -> Work:
    """Return the work of ``route`` at ``shape`` with the layout, data and configuration asked."""
    layout = case.layout or "TN"
    if case.pattern not in PATTERNS:
        raise Unsupported("unknown-pattern", f"there is no data pattern {case.pattern!r}")
    matmul.require(route, session.target, shape, layout)
    arena = session.arenas.get(
        route.compute_row,
        session.target,
        (shape,),
        cache_bytes=session.device.last_level_cache_bytes,
        pattern=case.pattern,
        seed=session.seed,
    )
    return matmul.prepare(
        route,
        session.target,
        arena,
        shape,
        layout=layout,
        config=case.config,
        seed=session.seed,
    )
