"""Choosing devices by name, two kinds of device in one host, telemetry around a case."""

from __future__ import annotations

import pytest

from roofprobe.probes import devices
from roofprobe.probes.backends import AcceleratorBackend, CpuBackend
from roofprobe.probes.devices import SamplerTelemeter, backend_of, discover, select
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Device

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")


def gpu(index: int) -> Device:
    uuid = f"GPU-0000-{index}"
    return Device(
        device_id=uuid,
        torch_device=f"cuda:{index}",
        backend="cuda",
        name="Example GPU",
        index=index,
        uuid=uuid,
    )


HOST = (gpu(0), gpu(1), CPU)


class NpuInterface:
    """Two accelerators of a kind that torch does not know."""

    def device_count(self) -> int:
        return 2

    def synchronize(self) -> None:
        pass


class NpuModule:
    """Their names, and nothing else."""

    def get_device_name(self, index: int) -> str:
        return "Example NPU"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("auto", ["GPU-0000-0", "GPU-0000-1"]),
        ("all", ["GPU-0000-0", "GPU-0000-1", "cpu"]),
        ("cpu", ["cpu"]),
        ("cuda", ["GPU-0000-0", "GPU-0000-1"]),
        ("cuda:1", ["GPU-0000-1"]),
        ("CUDA:1", ["GPU-0000-1"]),
        ("GPU-0000-1", ["GPU-0000-1"]),
        ("0000-1", ["GPU-0000-1"]),
        ("cpu, cuda:0", ["cpu", "GPU-0000-0"]),
        ("cuda:0,cuda", ["GPU-0000-0", "GPU-0000-1"]),
    ],
)
def test_devices_are_chosen_by_every_name_they_have(wanted: str, expected: list[str]) -> None:
    assert [device.device_id for device in select(HOST, wanted)] == expected


def test_auto_is_the_cpu_where_there_is_no_accelerator() -> None:
    assert select([CPU], "auto") == (CPU,)


def test_an_amd_gpu_answers_to_rocm_and_to_torch_s_name() -> None:
    amd = gpu(0).model_copy(update={"backend": "rocm"})
    assert select([amd, CPU], "rocm") == select([amd, CPU], "cuda:0") == (amd,)


@pytest.mark.parametrize("wanted", ["cuda:2", "cuda:", "gpu", "cpu,xpu", "", "cpu,", "0000"])
def test_an_unknown_name_lists_what_there_is(wanted: str) -> None:
    with pytest.raises(RoofprobeError, match="there is no device") as refused:
        select(HOST, wanted)
    assert refused.value.code == "unknown-device"
    assert refused.value.sentence.endswith(
        "there is: cuda:0 (Example GPU), cuda:1 (Example GPU), cpu (Example CPU)"
    )


def test_two_kinds_of_device_in_one_host_are_all_found_the_cpu_last() -> None:
    npu = AcceleratorBackend("npu", NpuInterface(), NpuModule())
    found = discover((npu, CpuBackend()))
    assert [device.device_id for device in found] == ["npu:0", "npu:1", "cpu"]
    assert [device.torch_device for device in select(found, "auto")] == ["npu:0", "npu:1"]
    assert select(found, "npu:1") == (found[1],)


def test_a_device_that_the_catalogue_does_not_know_keeps_its_name_and_says_so() -> None:
    npu = AcceleratorBackend("npu", NpuInterface(), NpuModule())
    found = discover((npu,))[0]
    assert (found.name, found.catalogue_key) == ("Example NPU", None)
    assert found.identity


def test_only_cuda_devices_open_the_driver_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("NVML was opened for a host without an NVIDIA GPU")

    monkeypatch.setattr(devices, "open_nvml", refuse)
    npu = AcceleratorBackend("npu", NpuInterface(), NpuModule())
    assert len(discover((npu, CpuBackend()))) == 3


def test_each_device_is_driven_by_its_own_kind_of_backend() -> None:
    other = gpu(0).model_copy(update={"backend": "npu"})
    assert backend_of(CPU).kind == "cpu"
    assert backend_of(gpu(0)).kind in ("cuda", "rocm")  # what this torch was built for
    assert backend_of(other).kind == "npu"


def test_without_a_source_nothing_is_watched() -> None:
    telemeter = SamplerTelemeter(None)
    with telemeter.watch():
        pass
    assert telemeter.summary() is None
