"""The best stream configuration is found once and remembered for devices of the same kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roofprobe.records.runfolder import write_run
from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Environment,
    Measurement,
    Options,
    Role,
    Run,
)
from roofprobe.records.tuned import winners, with_tuned

GPU = Device(
    device_id="GPU-1", torch_device="cuda:0", backend="cuda", name="Example GPU",
    architecture="sm_90", unit_count=132, memory_bytes=80 << 30, driver="580.1",
)  # fmt: skip
HOST = Environment(host="h", os="o", kernel="k", python="3", roofprobe="0", triton="3.6.0")


def measured(op: str, role: Role, name: str, gbps: float, **fields: Any) -> Measurement:
    status = fields.pop("status", "ok")
    case = Case(
        case_id=f"{role}/{op}/{name}", family="memory", op=op, precision="fp32", route="triton",
        shape={"elements": 1 << 28}, role=role, **fields,
    )  # fmt: skip
    rate = Distribution(unit="GB/s", median=gbps, ci_low=gbps, ci_high=gbps, p10=gbps, p90=gbps,
                        best=gbps, n=9)  # fmt: skip
    return Measurement(case=case, device_id="GPU-1", status=status, rate=rate,
                       kernel_config={"name": name})  # fmt: skip


COMPARED = (
    measured("copy", "anchor", "b32768-w8", 2900.0),
    measured("copy", "tune", "b16384-w8", 2950.0),
    measured("copy", "tune", "b16384-w4", 9999.0, status="invalid"),
    measured("read", "anchor", "b32768-w8", 3100.0),
    measured("l2-read", "tune", "b8192-w8-g4", 5000.0, level="l2"),
)


def run_of(run_id: str, *measurements: Measurement, device: Device = GPU) -> Run:
    return Run(
        run_id=run_id, status="complete", started_at="2000-01-01T00:00:00+00:00",
        options=Options(families=("memory",)), environment=HOST, devices=(device,),
        measurements=measurements,
    )  # fmt: skip


def kept(out: Path, run: Run) -> None:
    (out / run.run_id).mkdir()
    write_run(out / run.run_id, run)


def test_the_fastest_valid_one_wins_where_several_were_compared() -> None:
    assert winners(run_of("a", *COMPARED), "GPU-1") == {"copy": "b16384-w8"}
    assert winners(run_of("a", *COMPARED), "GPU-2") == {}


def test_the_next_run_in_the_folder_starts_from_the_winner_and_says_whose_it_is(
    tmp_path: Path,
) -> None:
    kept(tmp_path, run_of("20000101T000000Z-h", *COMPARED))
    twin = GPU.model_copy(update={"device_id": "GPU-2"})
    (found,) = with_tuned((twin,), tmp_path, HOST)
    assert found.tuned_streams == {"copy": "b16384-w8"}
    assert found.tuned_by == "20000101T000000Z-h"
    # A run that started from winners compares nothing, and hands them on.
    kept(tmp_path, run_of("20000102T000000Z-h", device=found))
    (again,) = with_tuned((twin,), tmp_path, HOST)
    assert again == found


@pytest.mark.parametrize(
    "changes",
    [{"name": "Another GPU"}, {"unit_count": 114}, {"architecture": "sm_80"}, {"driver": "590.0"}],
)
def test_another_device_or_driver_is_another_question(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    kept(tmp_path, run_of("a", *COMPARED))
    other = GPU.model_copy(update=changes)
    assert with_tuned((other,), tmp_path, HOST) == (other,)


def test_another_compiler_or_a_damaged_run_has_nothing_to_say(tmp_path: Path) -> None:
    kept(tmp_path, run_of("a", *COMPARED))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("{")
    newer = HOST.model_copy(update={"triton": "3.9.0"})
    assert with_tuned((GPU,), tmp_path, newer) == (GPU,)
    (found,) = with_tuned((GPU,), tmp_path, HOST)
    assert found.tuned_by == "a"


def test_a_processor_asks_no_earlier_run(tmp_path: Path) -> None:
    cpu = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")
    assert with_tuned((cpu,), tmp_path / "missing", HOST) == (cpu,)
    assert with_tuned((GPU,), tmp_path / "missing", HOST) == (GPU,)
