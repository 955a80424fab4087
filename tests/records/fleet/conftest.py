"""Hand-made runs of several hosts in folders of their own; no figure is of any real device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Environment,
    Family,
    Finding,
    Headline,
    Limits,
    Measurement,
    Options,
    Peer,
    Run,
    Span,
    Telemetry,
    Verdict,
)


def distribution(median: float, unit: str) -> Distribution:
    return Distribution(
        unit=unit, median=median, ci_low=median * 0.99, ci_high=median * 1.01, p10=median,
        p90=median, best=median, n=20,
    )  # fmt: skip


def case(case_id: str, family: Family, **more: Any) -> Case:
    values: dict[str, Any] = {
        "op": "gemm", "precision": "bf16", "route": "torch.mm", "shape": {}
    }  # fmt: skip
    return Case(case_id=case_id, family=family, **(values | more))


class Host:
    """Makes runs of one host with two devices, and writes them as a launcher would."""

    def __init__(self, name: str, out: Path, *, tflops: float = 600.0) -> None:
        self.name, self.out, self.tflops = name, out, tflops

    def run(self, at: str = "2026-03-01T10:00:00+00:00", **changes: Any) -> Run:
        devices = tuple(self.device(index) for index in range(2))
        run = Run(
            run_id=f"{at[:19].replace('-', '').replace(':', '')}Z-{self.name}",
            status="complete",
            started_at=at,
            finished_at=at.replace(":00+", ":59+"),
            options=Options(families=("compute", "memory"), tier="quick"),
            environment=Environment(
                host=self.name, os="Linux", kernel="6.1", python="3.12.1", roofprobe="0.1.0",
                torch="2.11.0",
            ),
            devices=devices,
            measurements=tuple(m for device in devices for m in self.measurements(device)),
            headlines=tuple(self.headline(device) for device in devices),
            verdict=Verdict(
                judgement="warn",
                devices={devices[0].device_id: "warn", devices[1].device_id: "pass"},
                findings=(
                    Finding(
                        code="hot", judgement="warn", layer="health",
                        device_id=devices[0].device_id, sentence="It is hot.",
                    ),
                    Finding(
                        code="quiet", judgement="unknown", layer="health", required=False,
                        device_id=devices[0].device_id, sentence="It does not tell.",
                    ),
                ),
            ),
        )  # fmt: skip
        return run.model_copy(update=changes)

    def device(self, index: int) -> Device:
        return Device(
            device_id=f"GPU-{self.name}-{index}", torch_device=f"cuda:{index}", backend="cuda",
            name="NVIDIA H100 80GB HBM3", index=index, driver="580.1",
            limits=Limits(power_limit_w=700.0), catalogue_key="h100-sxm",
        )  # fmt: skip

    def headline(self, device: Device) -> Headline:
        return Headline(
            device_id=device.device_id, family="compute", label="bf16", title="BF16",
            precision="bf16", row="bf16", case_id="bf16/burst", route="torch.mm", regime="burst",
            rate=distribution(self.tflops, "TFLOPS"),
            settled=distribution(self.tflops * 0.9, "TFLOPS"), settled_case_id="bf16/settled",
            sm_clock_mhz=1700.0, energy_j_per_tflop=1.1,
        )  # fmt: skip

    def measurements(self, device: Device) -> tuple[Measurement, ...]:
        own: dict[str, Any] = {"device_id": device.device_id, "status": "ok"}
        other = Peer(device_id="GPU-other", torch_device="cuda:9")
        third = Peer(device_id="GPU-third", torch_device="cuda:8")
        return (
            Measurement(
                case=case("bf16/settled", "compute"), latency=distribution(self.tflops, "us"),
                rate=distribution(self.tflops * 0.9, "TFLOPS"),
                telemetry=Telemetry(temperature_c=Span(min=50, median=60, max=71)), **own,
            ),
            Measurement(
                case=case("chase/l2/default/4096", "latency"), latency=distribution(9.0, "us"),
                access_ns=distribution(120.0, "ns"), **own,
            ),
            Measurement(
                case=case("launch/empty-graph", "launch"), latency=distribution(2.5, "us"), **own
            ),
            *(
                Measurement(
                    case=case(f"pair/{peer.device_id}/{rate}", "interconnect", op="p2p", peer=peer),
                    latency=distribution(9.0, "us"), rate=distribution(rate, "GB/s"), **own,
                )
                for peer, rate in ((other, 10.0), (other, 390.0), (third, 200.0))
            ),
        )  # fmt: skip

    def write(self, run: Run | None = None) -> Path:
        run = run if run is not None else self.run()
        folder = self.out / run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        document = run.model_dump(mode="json", exclude_none=True)
        (folder / "run.json").write_text(json.dumps(document), encoding="utf-8")
        latest = self.out / "latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
        return folder


@pytest.fixture
def hosts(tmp_path: Path) -> list[Host]:
    return [
        Host(f"node{number}", tmp_path / f"node{number}" / "reports", tflops=600.0 + number)
        for number in range(3)
    ]
