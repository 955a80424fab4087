"""One device layer: CUDA, ROCm, any accelerator that torch knows, and always the CPU.

A backend says who a device is, how to time on it, how much memory is free and how to wait for it.
CUDA and ROCm share torch's ``cuda`` interface. Everything else (Ascend through torch_npu, Intel
XPU, ...) goes through ``torch.accelerator`` with what it offers: its own events, memory information
and name; what it lacks stays absent. The CPU is a device like the others, timed by the wall clock.
"""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from roofprobe.kernels.work import Target
from roofprobe.probes.caches import driver_caches, last_level_bytes
from roofprobe.probes.driver_properties import memory_properties
from roofprobe.probes.timers import BatchWallTimer, EventTimer, GraphTimer, Timer, WallTimer
from roofprobe.records.schema import Device, Limits

if TYPE_CHECKING:
    from types import ModuleType


class Backend(Protocol):
    """What the probes need of a kind of device; ``index`` counts devices as torch shows them."""

    kind: str

    def count(self) -> int:
        """Return how many devices there are."""
        ...

    def describe(self, index: int) -> Device:
        """Return what torch tells of a device; touches no setting."""
        ...

    def select(self, index: int) -> None:
        """Make a device the current one: kernels of our own and events go to it."""
        ...

    def timer(self, index: int) -> Timer:
        """Return the best timer that the device has."""
        ...

    def free_memory_bytes(self, index: int) -> int | None:
        """Return the free device memory, or None where it is not told."""
        ...

    def release(self) -> None:
        """Give cached memory back to the device."""
        ...


def target_of(device: Device) -> Target:
    """Return what kernels need to know of ``device``."""
    return Target(
        kind=device.backend,
        torch_device=device.torch_device,
        architecture=device.architecture,
        unit_count=device.unit_count,
        features=device.features,
    )


class CpuBackend:
    """The host's processor through torch's CPU operations and the wall clock."""

    kind = "cpu"

    def count(self) -> int:
        """Return 1: the cores that this process may use are one device."""
        return 1

    def describe(self, index: int = 0) -> Device:
        """Return model, usable cores, caches, features and memory of the host."""
        import psutil

        from roofprobe.probes import host

        facts = host.cpu_facts()
        memory = psutil.virtual_memory()
        missing = {}
        if not facts.caches:
            missing["last_level_cache_bytes"] = "the system does not list its caches"
        if facts.clock_mhz is None:
            missing["clock_mhz"] = "the system reports no processor clock"
        return Device(
            device_id="cpu",
            torch_device="cpu",
            backend="cpu",
            name=facts.name,
            architecture=platform.machine(),
            vendor=facts.vendor,
            family=facts.family,
            model=facts.model,
            unit="core",
            unit_count=facts.usable_cores,
            memory_bytes=int(memory.total),
            memory_free_bytes=int(memory.available),
            last_level_cache_bytes=last_level_bytes(facts.caches),
            caches=facts.caches,
            features=facts.simd_features,
            limits=Limits(max_sm_clock_mhz=facts.clock_mhz),
            missing=missing,
        )

    def select(self, index: int = 0) -> None:
        """Do nothing: there is one."""

    def timer(self, index: int = 0) -> Timer:
        """Return the wall clock: CPU work is done when the call returns."""
        return WallTimer()

    def free_memory_bytes(self, index: int = 0) -> int | None:
        """Return what can be allocated without swapping, within the container's limit."""
        from roofprobe.probes import host

        return host.available_memory_bytes()

    def release(self) -> None:
        """Collect garbage, so that freed arrays go back to the system."""
        import gc

        gc.collect()


class CudaBackend:
    """NVIDIA GPUs through CUDA and AMD GPUs through ROCm: the same torch interface."""

    def __init__(self) -> None:
        """Find out which of the two torch was built for; opens no device."""
        import torch

        self.kind = "rocm" if torch.version.hip else "cuda"

    def count(self) -> int:
        """Return the number of visible GPUs; 0 when torch was built without GPU support."""
        import torch

        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def describe(self, index: int) -> Device:
        """Return name, UUID, architecture, units, memory and L2 as torch reports them."""
        import torch

        properties = torch.cuda.get_device_properties(index)
        uuid = getattr(properties, "uuid", None)
        uuid_text = f"GPU-{uuid}" if uuid is not None else None
        if self.kind == "rocm":
            architecture = str(getattr(properties, "gcnArchName", "")).split(":")[0] or None
        else:
            architecture = f"sm_{properties.major}{properties.minor}"
        free, total = torch.cuda.mem_get_info(index)
        pci = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
        known = [part for part in pci if part is not None]
        bus_id = "{:08x}:{:02x}:{:02x}.0".format(*known) if len(known) == 3 else None
        # AMD's runtime tells the memory controller's clock, from which no bandwidth follows.
        memory = memory_properties(properties, index) if self.kind == "cuda" else None
        return Device(
            device_id=uuid_text or bus_id or f"{self.kind}:{index}",
            torch_device=f"cuda:{index}",
            backend=self.kind,
            name=properties.name,
            index=index,
            uuid=uuid_text,
            pci_bus_id=bus_id,
            architecture=architecture,
            unit="CU" if self.kind == "rocm" else "SM",
            unit_count=properties.multi_processor_count,
            memory_bytes=int(total),
            memory_free_bytes=int(free),
            last_level_cache_bytes=getattr(properties, "L2_cache_size", None) or None,
            caches=driver_caches(properties, self.kind, properties.multi_processor_count),
            driver_mem_clock_mhz=memory.clock_mhz if memory else None,
            driver_memory_bus_bits=memory.bus_bits if memory else None,
            missing={"driver_memory": memory.missing} if memory and memory.missing else {},
            runtime=torch.version.hip or torch.version.cuda,
        )

    def select(self, index: int) -> None:
        """Set torch's current device, to whose stream Triton launches whatever its operands."""
        import torch

        torch.cuda.set_device(index)

    def timer(self, index: int) -> Timer:
        """Return graph replay between events, with a blocking kernel as the second choice."""
        import torch

        device = torch.device("cuda", index)
        self.select(index)
        sleep: Callable[[int], None] | None = getattr(torch.cuda, "_sleep", None)
        clock_khz = (
            getattr(torch.cuda.get_device_properties(index), "clock_rate", None) or 2_000_000
        )

        def hold(microseconds: float) -> None:
            assert sleep is not None
            sleep(int(microseconds * clock_khz / 1000))

        events = EventTimer(
            lambda: torch.cuda.Event(enable_timing=True),
            lambda: torch.cuda.synchronize(device),
            hold if sleep is not None else None,
        )
        return GraphTimer(device, events)

    def free_memory_bytes(self, index: int) -> int | None:
        """Return what the driver says is free, other processes' use taken off."""
        import torch

        return int(torch.cuda.mem_get_info(index)[0])

    def release(self) -> None:
        """Collect garbage and empty torch's caching allocator."""
        import gc

        import torch

        gc.collect()
        torch.cuda.empty_cache()


class AcceleratorBackend:
    """Any other accelerator through ``torch.accelerator``: Ascend, XPU and what comes.

    ``interface`` and ``device_module`` default to torch's own (``torch.accelerator`` and, say,
    ``torch.npu``); a test double hands in its own. Each fact is asked for on its own, and what the
    backend does not offer is absent with the reason.
    """

    def __init__(
        self, kind: str, interface: Any = None, device_module: Any = None, tensor_device: str = ""
    ) -> None:
        """Name the backend by the type that torch gives it (``npu``, ``xpu``)."""
        import torch

        self.kind = kind
        self._interface = interface if interface is not None else torch.accelerator
        self._module = device_module if device_module is not None else getattr(torch, kind, None)
        self._tensor_device = tensor_device

    def count(self) -> int:
        """Return how many devices the backend shows; 0 when it cannot tell."""
        try:
            return int(self._interface.device_count())
        except Exception:  # a half-installed vendor plug-in may raise anything
            return 0

    def describe(self, index: int) -> Device:
        """Return what the backend tells; every fact may be absent."""
        missing: dict[str, str] = {}

        def ask(fact: str, question: Callable[[], Any]) -> Any:
            try:
                return question()
            except Exception as error:  # each backend lacks other things, in other ways
                missing[fact] = f"{type(error).__name__}: {error}"
                return None

        module: Any = self._module
        name = ask("name", lambda: str(module.get_device_name(index)))
        properties = ask("properties", lambda: module.get_device_properties(index))
        memory = ask("memory_free_bytes", lambda: self._memory(index))
        units = next(
            (
                int(value)
                for field in ("multi_processor_count", "cube_core_num", "gpu_eu_count")
                if (value := getattr(properties, field, None))
            ),
            None,
        )
        cache = getattr(properties, "L2_cache_size", None)
        return Device(
            device_id=f"{self.kind}:{index}",
            torch_device=self._tensor_device or f"{self.kind}:{index}",
            backend=self.kind,
            name=name or f"{self.kind} device {index}",
            index=index,
            unit_count=units,
            memory_bytes=memory[1] if memory else getattr(properties, "total_memory", None),
            memory_free_bytes=memory[0] if memory else None,
            last_level_cache_bytes=cache or None,
            caches=driver_caches(properties, self.kind, units),
            missing=missing,
        )

    def select(self, index: int) -> None:
        """Set the current device where the backend can."""
        with suppress(Exception):
            self._interface.set_device_index(index)

    def timer(self, index: int) -> Timer:
        """Return event timing; without timing events, the wall clock around synchronised work."""
        import torch

        synchronize = self._interface.synchronize
        self.select(index)  # events are recorded on the current device
        event_type = getattr(self._module, "Event", None) or getattr(torch, "Event", None)
        try:
            probe = event_type(enable_timing=True)  # type: ignore[misc]
            probe.record()
            probe2 = event_type(enable_timing=True)  # type: ignore[misc]
            probe2.record()
            synchronize()
            probe.elapsed_time(probe2)
        except Exception:  # no timing events on this backend
            return BatchWallTimer(synchronize)
        return EventTimer(lambda: event_type(enable_timing=True), synchronize)  # type: ignore[misc]

    def free_memory_bytes(self, index: int) -> int | None:
        """Return the free memory, or None where the backend does not tell."""
        try:
            return int(self._memory(index)[0])
        except Exception:  # see describe: absent, not fatal
            return None

    def release(self) -> None:
        """Empty the backend's cache where it has one."""
        import gc

        gc.collect()
        with suppress(Exception):
            self._interface.empty_cache()

    def _memory(self, index: int) -> tuple[int, int]:
        for owner, name in (
            (self._interface, "get_memory_info"),
            (self._module, "mem_get_info"),
        ):
            question = getattr(owner, name, None)
            if question is not None:
                # torch has the first for every backend, but not every backend fills it in.
                with suppress(Exception):
                    free, total = question(index)
                    return int(free), int(total)
        raise NotImplementedError(f"{self.kind} reports no memory information")


def available_backends() -> tuple[Backend, ...]:
    """Return the backends with at least one device, GPUs first, the CPU always last."""
    import torch

    found: list[Backend] = []
    cuda = CudaBackend()
    if cuda.count():
        found.append(cuda)
    kind = _accelerator_kind(torch)
    if kind is not None and kind != "cuda":
        other = AcceleratorBackend(kind)
        if other.count():
            found.append(other)
    found.append(CpuBackend())
    return tuple(found)


def _accelerator_kind(torch: ModuleType) -> str | None:
    """Return the type of torch's current accelerator, loading a vendor plug-in if one is there."""
    if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD") != "0":
        with suppress(Exception):
            importlib.import_module("torch_npu")
    try:
        accelerator = torch.accelerator
        return str(accelerator.current_accelerator().type) if accelerator.is_available() else None
    except Exception:  # torch before 2.6, or a plug-in that fails
        return None
