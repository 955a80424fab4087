"""What each vendor's way of telling makes of a device's health, and what it makes of silence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from roofprobe.probes import cpu_health, health, kernel_log
from roofprobe.probes.amdsmi_health import health_of as amd_health
from roofprobe.probes.npu_smi_health import chips_in, health_in
from roofprobe.records.schema import Device, Health

GPU = Device(
    device_id="GPU-0", torch_device="cuda:0", backend="cuda", name="NVIDIA H200",
    uuid="GPU-00000000-1111-2222-3333-444444444440", pci_bus_id="00000000:1b:00.0",
)  # fmt: skip
ALWAYS = {"at", "source"}


@pytest.fixture
def told(fake_nvml: ModuleType, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Give a function that reads the health of a double, in which answers are changed."""
    monkeypatch.setattr(health, "xids_of", lambda address: ((), None))

    def read(module: Any = None, **answers: Any) -> Health:
        host = module or fake_nvml.FakeNvml(fake_nvml.h200(**answers))
        monkeypatch.setitem(sys.modules, "pynvml", host)
        return health.health_of(GPU)

    return read


# NVIDIA


def test_a_healthy_gpu_tells_all_of_its_counters(told: Any) -> None:
    found = told()
    assert found.source == "nvml"
    assert (found.ecc_corrected, found.ecc_uncorrected) == (0, 0)
    assert (found.ecc_corrected_total, found.ecc_uncorrected_total) == (0, 0)
    assert (found.remapped_rows_uncorrected, found.remapping_pending) == (0, False)
    assert (found.retired_pages, found.retirement_pending) == (0, False)
    assert (found.nvlink_active, found.nvlink_errors, found.pcie_replays) == (18, 0, 0)
    assert (found.temperature_c, found.slowdown_temperature_c) == (31.0, 87.0)
    assert (found.power_w, found.power_limit_w) == (76.5, 700.0)
    assert found.throttle_reasons == ("idle",)
    assert found.throttle_ns["hw_thermal"] == 4_000
    assert (found.xids, found.lost) == ((), None)
    assert set(found.missing) <= {"other_processes"}, (
        "process ids in a container are not the host's"
    )


def test_each_counter_is_read_under_its_own_name(told: Any, fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200(
        nvmlDeviceGetRemappedRows=(3, 1, 1, 0),
        nvmlDeviceGetRetiredPages_v2=iter([[{"address": 1}], [{"address": 2}, {"address": 3}]]),
        nvmlDeviceGetNvLinkErrorCounter=5,
    )
    for kind, scope, count in ((0, 0, 11), (1, 0, 12), (0, 1, 13), (1, 1, 14)):
        gpu.answers["nvmlDeviceGetTotalEccErrors", kind, scope] = count
    found = told(fake_nvml.FakeNvml(gpu))
    assert (found.ecc_corrected, found.ecc_uncorrected) == (11, 12)
    assert (found.ecc_corrected_total, found.ecc_uncorrected_total) == (13, 14)
    assert (found.remapped_rows_corrected, found.remapped_rows_uncorrected) == (3, 1)
    assert (found.remapping_pending, found.remapping_failed) == (True, False)
    assert found.retired_pages == 3
    assert found.nvlink_errors == 18 * 4 * 5, "18 links, four counters each"


def test_links_that_are_down_are_not_asked_for_errors(told: Any, fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    gpu.answers["nvmlDeviceGetNvLinkState", 1] = 0
    gpu.answers["nvmlDeviceGetNvLinkErrorCounter"] = 7
    found = told(fake_nvml.FakeNvml(gpu))
    assert (found.nvlink_active, found.nvlink_errors) == (17, 17 * 28)


def test_a_board_without_ecc_and_links_says_so_and_tells_the_rest(
    told: Any, fake_nvml: ModuleType
) -> None:
    refused = fake_nvml.Refusal(fake_nvml.NOT_SUPPORTED)
    gpu = fake_nvml.h200(
        nvmlDeviceGetTotalEccErrors=refused, nvmlDeviceGetRemappedRows=refused,
        nvmlDeviceGetRetiredPages_v2=refused, nvmlDeviceGetRetiredPagesPendingStatus=refused,
    )  # fmt: skip
    del gpu.fields[91]
    found = told(fake_nvml.FakeNvml(gpu))
    assert found.temperature_c == 31.0
    for name in ("ecc_uncorrected", "remapping_failed", "retired_pages", "nvlink_errors"):
        assert getattr(found, name) is None
        assert found.missing[name].startswith("not-supported ")


def test_a_lost_gpu_is_lost_and_its_counters_are_absent(told: Any, fake_nvml: ModuleType) -> None:
    gpu = fake_nvml.h200()
    gpu.lost_after = 0
    found = told(fake_nvml.FakeNvml(gpu))
    assert found.lost is not None
    assert found.lost.startswith("gpu-is-lost ")
    assert {
        name
        for name in Health.model_fields
        if getattr(found, name) not in (None, (), {}) and name not in (*ALWAYS, "lost", "missing")
    } == set()


def test_without_nvml_there_is_a_reason_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = health.health_of(GPU)
    assert found.source is None
    assert found.missing["health"].startswith("binding-missing ")
    assert "xids" in found.missing or found.xids is not None


def test_a_reader_that_raises_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(address: str | None) -> Any:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(health, "xids_of", broken)
    assert health.health_of(GPU).missing == {"health": "failed (RuntimeError: no such thing)"}


def test_a_backend_that_nobody_tells_of_is_a_reason() -> None:
    found = health.health_of(GPU.model_copy(update={"backend": "xpu"}))
    assert found.missing["health"].startswith("not-supported (nothing is known to ask about xpu")


# AMD: names and keys of amdsmi's documentation; invented values, never run on an AMD GPU


class FakeAmdSmi:
    """The module as its documentation describes it."""

    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1, VRAM=2)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "amdsmi_init": None,
            "amdsmi_shut_down": None,
            "amdsmi_get_processor_handles": ["other", "ours"],
            "amdsmi_get_gpu_total_ecc_count": {
                "correctable_count": 4, "uncorrectable_count": 1, "deferred_count": 0,
            },
            "amdsmi_get_gpu_bad_page_info": [
                {"value": 1, "status": "RESERVED"}, {"value": 2, "status": "PENDING"},
            ],
            "amdsmi_get_pcie_info": {"pcie_static": {}, "pcie_metric": {"pcie_replay_count": 6}},
            "amdsmi_get_power_info": {
                "current_socket_power": "N/A", "average_socket_power": 140, "power_limit": 750,
            },
            "amdsmi_get_temp_metric": 45,
            "amdsmi_get_gpu_process_list": [{"name": "python3", "pid": 4_000_001}],
            **answers,
        }  # fmt: skip

    def amdsmi_get_gpu_device_bdf(self, handle: str) -> str:
        return {"other": "0000:0b:00.0", "ours": "0000:1B:00.0"}[handle]

    def __getattr__(self, name: str) -> Any:
        if name not in self.answers:
            raise AttributeError(name)
        answer = self.answers[name]

        def call(*arguments: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def test_an_amd_gpu_is_found_by_its_pci_address_and_tells() -> None:
    found = amd_health("00000000:1b:00.0", FakeAmdSmi())
    assert found.source == "amdsmi"
    assert (found.ecc_corrected, found.ecc_uncorrected, found.pcie_replays) == (4, 1, 6)
    assert (found.retired_pages, found.retirement_pending) == (2, True)
    assert (found.temperature_c, found.power_w, found.power_limit_w) == (45.0, 140.0, 750.0)
    assert found.other_processes == ("python3 (4000001, compute)",)
    assert found.missing == {}


@pytest.mark.parametrize("name", [name for name in FakeAmdSmi().answers if "_get_" in name])
@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("AMDSMI_STATUS_NOT_SUPPORTED - Feature not supported"), "N/A", None, -1,
        0xFFFFFFFFFFFFFFFF, object(), float("nan"),
    ],
    ids=["refused", "text", "none", "negative", "all bits", "object", "not a number"],
)  # fmt: skip
def test_what_an_amd_gpu_does_not_tell_is_absent_with_a_reason(name: str, answer: Any) -> None:
    found = amd_health("0000:1b:00.0", FakeAmdSmi(**{name: answer}))
    empty_list = name == "amdsmi_get_gpu_bad_page_info" and answer == "N/A"
    assert found.missing or empty_list, "some versions tell of no bad page by a text"
    if isinstance(answer, RuntimeError) and name != "amdsmi_get_processor_handles":
        assert {why.partition(" ")[0] for why in found.missing.values()} == {"not-supported"}


@pytest.mark.parametrize(
    ("module", "code"),
    [
        (FakeAmdSmi(amdsmi_init=RuntimeError("no driver")), "failed"),
        (FakeAmdSmi(amdsmi_get_processor_handles=[]), "not-found"),
        (None, "binding-missing"),
    ],
)
def test_why_amdsmi_tells_nothing(module: Any, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    found = amd_health("0000:1b:00.0", module)
    assert found.source is None
    assert found.missing["health"].startswith(f"{code} ")


# Ascend: the table's layout by its documentation and by posted tables; invented values

NPU_TABLE = """
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc2                 Version: 24.1.rc2                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 93.6        40                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | Alarm         | NA          51                0    / 0             |
| 0                         | 0000:01:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
| 1       0                 | 4000001       | python3                  | 1200                    |
+===========================+===============+====================================================+
"""


def test_the_table_of_npu_smi_is_read_chip_by_chip() -> None:
    first, second = health_in(NPU_TABLE, 0), health_in(NPU_TABLE, 1)
    assert (first.source, first.state, first.power_w, first.temperature_c) == (
        "npu-smi", "OK", 93.6, 40.0,
    )  # fmt: skip
    assert first.other_processes == ()
    assert (second.state, second.power_w, second.temperature_c) == ("Alarm", None, 51.0)
    assert second.missing == {"power_w": "not-told (npu-smi info)"}
    assert second.other_processes == ("python3 (4000001, compute)",)
    assert [chip.bus_id for chip in chips_in(NPU_TABLE)] == ["0000:C1:00.0", "0000:01:00.0"]


@pytest.mark.parametrize(
    ("index", "visible", "state"), [(0, "1", "Alarm"), (1, "1,0", "OK"), (1, "", "Alarm")]
)
def test_torchs_numbers_go_through_the_list_of_visible_chips(
    index: int, visible: str, state: str
) -> None:
    assert health_in(NPU_TABLE, index, visible).state == state


@pytest.mark.parametrize(
    ("table", "index", "visible"),
    [("", 0, None), ("dcmi model initialized failed", 0, None), (NPU_TABLE, 2, None),
     (NPU_TABLE, 0, "a"), (NPU_TABLE, 1, "0"), (NPU_TABLE, 0, "7")],
)  # fmt: skip
def test_a_chip_that_is_not_in_the_table_is_a_reason(
    table: str, index: int, visible: str | None
) -> None:
    assert health_in(table, index, visible).missing == {"health": "not-found (npu-smi info)"}


def test_without_npu_smi_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    npu = GPU.model_copy(update={"backend": "npu"})
    assert health.health_of(npu).missing["health"].startswith("binding-missing ")


def test_npu_smi_is_asked_as_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "npu-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{NPU_TABLE}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    npu = GPU.model_copy(update={"backend": "npu"})
    assert health.health_of(npu).state == "OK"
    program.write_text("#!/bin/sh\nexit 3\n")
    assert health.health_of(npu).missing["health"] == "failed (exit code 3: npu-smi info)"


# The host's processor


def written(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / "sys/devices/system" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_throttle_and_memory_counters_of_a_processor_are_summed(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        **{
            "cpu__cpu0__thermal_throttle__core_throttle_count": "3\n",
            "cpu__cpu1__thermal_throttle__core_throttle_count": "4\n",
            "cpu__cpu0__thermal_throttle__package_throttle_count": "9\n",
            "cpu__cpu1__thermal_throttle__package_throttle_count": "9\n",
            "edac__mc__mc0__ce_count": "2\n",
            "edac__mc__mc1__ce_count": "1\n",
            "edac__mc__mc0__ue_count": "0\n",
        },
    )
    found = cpu_health.health_of(root)
    assert found.throttle_events == {"core_throttle_count": 7, "package_throttle_count": 9}
    assert (found.ecc_corrected, found.ecc_uncorrected, found.source) == (3, 0, "system")


def test_a_virtual_machine_that_counts_nothing_says_so(tmp_path: Path) -> None:
    found = cpu_health.health_of(tmp_path)
    assert (found.source, found.ecc_uncorrected, found.throttle_events) == (None, None, {})
    assert found.missing["health"].startswith("not-supported ")


@pytest.mark.parametrize("text", ["", "many", "-1"])
def test_a_counter_that_is_no_number_is_absent(tmp_path: Path, text: str) -> None:
    root = written(tmp_path, **{"edac__mc__mc0__ue_count": text})
    found = cpu_health.health_of(root)
    assert found.ecc_uncorrected is None
    assert found.missing["ecc_uncorrected"].startswith("not-supported ")


def test_this_hosts_processor_is_read_without_an_exception() -> None:
    cpu = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="this host's")
    assert health.health_of(cpu).at is not None


# Only getters; nothing of a vendor's library changes a setting


def test_no_vendor_call_is_a_setter() -> None:
    for file in ("amdsmi_health.py", "npu_smi_health.py", "nvml_health.py"):
        text = (Path(kernel_log.__file__).parent / file).read_text()
        assert "_set_" not in text
        assert "DeviceSet" not in text
        assert '"set"' not in text
