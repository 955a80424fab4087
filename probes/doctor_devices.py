"""The doctor's checks of each GPU that will be measured: its users, memory, limits and modes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roofprobe.probes.doctor_scene import GIB, YOUR_CHOICE, Finding, Host, Scene
from roofprobe.probes.nvml import Nvml, NvmlDevice
from roofprobe.probes.nvml_facts import DeviceLimits, NvmlUnavailable, ProcessList, reason_code

_SLOWDOWNS: Final = frozenset({"hw_slowdown", "hw_thermal", "power_brake", "sw_thermal"})


def check_devices(scene: Scene) -> Iterable[Finding]:
    """Look at each GPU that NVML knows, by torch's number where torch can use them."""
    if not isinstance(scene.nvml, Nvml):
        return
    devices: list[tuple[str, NvmlDevice | NvmlUnavailable]]
    if scene.torch.devices and scene.torch.cuda:
        devices = [
            (f"cuda:{index}", scene.nvml.device_by_uuid(device.uuid, device.pci_bus_id))
            for index, device in enumerate(scene.torch.devices)
        ]
    else:
        devices = [(f"GPU {index}", device) for index, device in enumerate(scene.nvml.devices())]
    for label, device in devices:
        if isinstance(device, NvmlUnavailable):
            yield Finding(
                "device", label, "unknown", device.code,
                f"NVML cannot be asked about it: {device.sentence}", device.remedy,
            )  # fmt: skip
            continue
        yield from _check_device(label, device, scene.host)


def _check_device(label: str, device: NvmlDevice, host: Host) -> Iterable[Finding]:
    limits, bus_id = device.limits(), device.identity().pci_bus_id or "GPU"
    yield _users(label, device.processes(sees_host_pids=host.sees_host_pids), device)
    yield _free_memory(label, limits)
    yield _power_limit(label, limits, bus_id)
    yield _slices(label, device, limits, bus_id)
    yield _ecc(label, limits, bus_id)
    if limits.compute_mode == "prohibited":
        yield Finding(
            "compute-mode", f"{label} compute mode", "fail", limits.compute_mode,
            "No process may compute on this GPU.",
            f"sudo nvidia-smi -i {bus_id} -c DEFAULT  # {YOUR_CHOICE}",
        )  # fmt: skip
    width, width_max = limits.pcie_width, limits.pcie_width_max
    if width and width_max and width < width_max:
        yield Finding(
            "pcie", f"{label} PCIe width", "warn", f"x{width} of x{width_max}",
            "The link to the host has fewer lanes than both ends could have.",
            f"nvidia-smi -i {bus_id} -q  # look under PCI, then ask the provider",
        )  # fmt: skip
    if limits.virtualization == "vgpu":
        yield Finding(
            "virtualization", f"{label} virtualization", "warn", "vgpu",
            "This is a share of a GPU; its figures are not those of the whole card.",
        )  # fmt: skip
    slowdowns = sorted(_SLOWDOWNS.intersection(device.snapshot().throttle_reasons))
    if slowdowns:
        yield Finding(
            "throttle", f"{label} throttling", "warn", ", ".join(slowdowns),
            "The clocks are held down right now, before anything is measured.",
            f"nvidia-smi -i {bus_id} -q -d TEMPERATURE,POWER,PERFORMANCE",
        )  # fmt: skip


def _users(label: str, listed: ProcessList, device: NvmlDevice) -> Finding:
    title, wait = f"{label} other processes", "nvidia-smi  # wait for them, or ask their owner"
    if listed.others:
        names = ", ".join(f"{p.name or 'process'} ({p.pid})" for p in listed.others)
        sentence = f"Others use this GPU, so figures will be low and noisy: {names}."
        return Finding("processes", title, "warn", str(len(listed.others)), sentence, wait)
    if listed.conclusive:
        return Finding("processes", title, "ok", "none", "Nobody else uses this GPU.")
    moment = device.snapshot(health=True)
    used, busy = moment.memory_used_bytes, moment.utilisation_percent
    signs = [
        f"{used / GIB:.1f} GiB used" if used is not None and used > 2 * GIB else "",
        f"{busy:.0f}% busy" if busy is not None and busy > 5 else "",
    ]
    if any(signs):
        figure = ", ".join(filter(None, signs))
        sentence = "Something that cannot be seen from here uses this GPU."
        return Finding("processes", title, "warn", figure, sentence, wait)
    if used is None and busy is None:
        sentence = "Whether others use this GPU cannot be seen from here."
        return Finding("processes", title, "unknown", "?", sentence, "nvidia-smi")
    sentence = "Processes cannot be listed from here; memory and utilisation show no one else."
    return Finding("processes", title, "ok", "none to be seen", sentence)


def _free_memory(label: str, limits: DeviceLimits) -> Finding:
    title, free, total = f"{label} memory", limits.memory_free_bytes, limits.memory_total_bytes
    if free is None or total is None:
        return _not_told("device-memory", title, limits.missing.get("memory_free_bytes"))
    figure = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < 0.9 * total:
        return Finding(
            "device-memory", title, "warn", figure,
            "A tenth or more is taken, so large cases may be left out.", "nvidia-smi",
        )  # fmt: skip
    return Finding("device-memory", title, "ok", figure, "The memory is free.")


def _power_limit(label: str, limits: DeviceLimits, bus_id: str) -> Finding:
    title, limit, default = (
        f"{label} power limit",
        limits.power_limit_w,
        limits.default_power_limit_w,
    )
    if limit is None or default is None:
        name = "power_limit_w" if limit is None else "default_power_limit_w"
        return _not_told("power", title, limits.missing.get(name))
    if limit < default - 0.5:
        return Finding(
            "power", title, "warn", f"{limit:.0f} of {default:.0f} W",
            "The limit is below the board's default, so clocks under load will be lower.",
            f"sudo nvidia-smi -i {bus_id} -pl {default:.0f}  # {YOUR_CHOICE}",
        )  # fmt: skip
    return Finding("power", title, "ok", f"{limit:.0f} W", "It is the board's default or higher.")


def _slices(label: str, device: NvmlDevice, limits: DeviceLimits, bus_id: str) -> Finding:
    title = f"{label} MIG"
    if device.is_mig_slice:
        sentence = "This is a slice of a GPU; its figures are not those of the whole card."
        return Finding("mig", title, "warn", "slice", sentence)
    if limits.mig_enabled:
        return Finding(
            "mig", title, "warn", "on",
            "The GPU is in slices; CUDA uses one of them, or none if none has been made.",
            f"sudo nvidia-smi -i {bus_id} -mig 0  # {YOUR_CHOICE}",
        )  # fmt: skip
    if limits.mig_enabled is False:
        return Finding("mig", title, "ok", "off", "The GPU is whole.")
    reason = limits.missing.get("mig_enabled")
    if _not_offered(reason):
        return Finding("mig", title, "ok", "not offered", "This GPU cannot be sliced.")
    return _not_told("mig", title, reason)


def _ecc(label: str, limits: DeviceLimits, bus_id: str) -> Finding:
    title, on, pending = f"{label} ECC", limits.ecc_enabled, limits.ecc_pending
    words = {True: "on", False: "off"}
    if on is None:
        reason = limits.missing.get("ecc_enabled")
        if _not_offered(reason):
            return Finding("ecc", title, "ok", "not offered", "This GPU has no ECC switch.")
        return _not_told("ecc", title, reason)
    if pending is not None and pending != on:
        figure = f"{words[on]}, {words[pending]} after a reset"
        sentence = "A change of ECC waits for the next reset of the GPU."
        return Finding("ecc", title, "warn", figure, sentence, "sudo reboot  # your choice")
    if not on:
        return Finding(
            "ecc", title, "warn", "off",
            "Errors in memory go unseen, and bandwidth does not compare with GPUs that check.",
            f"sudo nvidia-smi -i {bus_id} -e 1  # {YOUR_CHOICE}",
        )  # fmt: skip
    return Finding("ecc", title, "ok", "on", "Memory is checked.")


def _not_offered(reason: str | None) -> bool:
    return reason is not None and reason_code(reason) == "not-supported"


def _not_told(code: str, title: str, reason: str | None) -> Finding:
    sentence = f"The driver does not tell it ({reason or 'no reason given'})."
    return Finding(code, title, "unknown", "?", sentence, "nvidia-smi -q")
