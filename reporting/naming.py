"""How a case and a device are called in every report."""

from __future__ import annotations

from roofprobe.records.schema import Case, Device, Measurement, Run
from roofprobe.reporting.numbers import UNKNOWN, capacity, compact
from roofprobe.reporting.plain_text import clean

_USUAL = ("l1", "default pages")
_HOW = {"l2": "first cache skipped"}


def shape_text(case: Case, array_bytes: int | None = None) -> str:
    """Write a shape: ``4096x4096x4096`` (m, n, k), or how much one array of a stream holds."""
    shape = case.shape
    if shape.keys() == {"m", "n", "k"}:
        return f"{shape['m']}x{shape['n']}x{shape['k']}"
    if array_bytes is not None and case.family == "memory":
        return f"{capacity(array_bytes)} arrays"
    sizes = [size for name, size in shape.items() if name in ("bytes", "footprint_bytes")]
    if sizes:
        return capacity(sizes[0])
    if shape.keys() == {"elements"}:
        return f"{compact(shape['elements'])} elements"
    return clean(" ".join(f"{name}={size}" for name, size in shape.items()))


def triple_text(shape: tuple[int, int, int] | None) -> str:
    """Write (m, n, k) as every shape is written; a dash where there is none."""
    return UNKNOWN if shape is None else "x".join(map(str, shape))


def case_kind(case: Case) -> str:
    """Name what is measured and how, without the shape: ``gemm fp32 torch.mm``."""
    words = (case.op, case.row or case.precision, case.route)
    peer = f" to {case.peer.torch_device}" if case.peer else ""
    return clean(" ".join(dict.fromkeys(word for word in words if word != "none")) + peer)


def case_name(case: Case) -> str:
    """Name a case with its shape: ``gemm fp32 torch.mm 2048x2048x2048``."""
    return f"{case_kind(case)} {shape_text(case)}".strip()


def config_text(case: Case) -> str:
    """Name the configuration of a case, without what is usual: every cache, the system's pages."""
    words = (case.config or "").split(", ")
    return ", ".join(_HOW.get(word, clean(word)) for word in words if word and word not in _USUAL)


def variant_text(case: Case) -> str:
    """Write what else tells a case from its neighbours: layout, accumulator, unit, data."""
    parts = [
        case.layout,
        f"{case.accumulator} accumulation" if case.accumulator else None,
        f"{case.scaling} scales" if case.scaling else None,
        f"{case.pipe} pipe" if case.pipe else None,
        "fast accumulation" if case.fast_accum else None,
        f"{case.sparsity} sparse" if case.sparsity else None,
        f"configuration {case.config}" if case.config else None,
        "copy engine" if case.engine == "copy-engine" else None,
        f"to {case.peer.torch_device}" if case.peer else None,
        f"{case.pattern} data",
    ]
    return clean(", ".join(part for part in parts if part))


def kernel_text(measurement: Measurement) -> str:
    """Name the kernel that ran, as the profiler or the route named it; a dash where neither did."""
    names = measurement.identity.names if measurement.identity else ()
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return clean(names[0] + more)
    return clean(measurement.kernel) if measurement.kernel else UNKNOWN


def device_title(device: Device) -> str:
    """Name a device and where torch finds it: ``Example GPU (cuda:0)``."""
    name, address = clean(device.name), clean(device.torch_device)
    return f"{name} ({address})" if address and address != name else name


def short_device(run: Run, device_id: str | None) -> str | None:
    """Return where torch finds a device of the run; its id where the run does not know it."""
    if device_id is None:
        return None
    for device in run.devices:
        if device.device_id == device_id:
            return short_address(device)
    return clean(device_id)


def device_ids(run: Run) -> tuple[str, ...]:
    """Return the ids of the run's devices, then those that only measurements name."""
    known = [device.device_id for device in run.devices]
    return tuple(dict.fromkeys([*known, *(m.device_id for m in run.measurements)]))


def short_address(device: Device) -> str:
    """Return where torch finds a device: ``cuda:0``, ``cpu``."""
    return clean(device.torch_device)


def alike(run: Run, device_id: str) -> tuple[Device, ...]:
    """Return the devices with the name and the memory of this one, itself among them, in order."""
    own = next((device for device in run.devices if device.device_id == device_id), None)
    return tuple(
        device
        for device in run.devices
        if own is not None and (device.name, device.memory_bytes) == (own.name, own.memory_bytes)
    )
