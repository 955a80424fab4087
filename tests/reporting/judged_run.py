"""A hand-made verdict on two GPUs, a processor and their host. No figure is of a real device."""

from __future__ import annotations

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.judge import rolled_up
from roofprobe.records.schema import Device, Finding, Run, Verdict

SECOND_ID = "GPU-11111111-example"


def judged(run: Run) -> Run:
    """Return ``run`` with a second GPU and a verdict that has every kind of finding."""
    first, cpu = run.devices
    second = first.model_copy(
        update={
            "device_id": SECOND_ID, "uuid": SECOND_ID, "torch_device": "cuda:1", "index": 1,
            "pci_bus_id": "0000:01:00.0",
        }
    )  # fmt: skip
    return with_findings(run, (first, second, cpu), findings(first, second, cpu))


def with_findings(run: Run, devices: tuple[Device, ...], found: tuple[Finding, ...]) -> Run:
    """Return ``run`` with these devices, judged by these findings."""
    verdict = Verdict(
        judgement=rolled_up(found),
        devices={
            d.device_id: rolled_up(f for f in found if f.device_id == d.device_id) for d in devices
        },
        host=rolled_up(f for f in found if f.device_id is None),
        findings=found,
    )
    return run.model_copy(update={"devices": devices, "verdict": verdict})


def findings(first: Device, second: Device, cpu: Device) -> tuple[Finding, ...]:
    """Return findings of every judgement and several layers."""
    share = {"bound": 0.35, "unit": "share of the derived peak"}
    return (
        finding("RP-COMPLETE", "pass", "All 16 planned cases ended in a result."),
        finding(
            "RP-COMPUTE", "pass", "bf16 reaches 73% of its derived peak",
            device=first, case_id="gemm-bf16-torch.mm-8192", figure=0.727, **share,
        ),
        finding(
            "RP-COMPUTE", "fail", "bf16 reaches 30% of its derived peak, less than 35%",
            device=second, case_id="gemm-bf16-torch.mm-8192", figure=0.30, **share,
        ),
        finding(
            "RP-BANDWIDTH", "warn", "read reaches 1400 GB/s: something holds it back",
            device=second, case_id="read-fp32", figure=1400.0, bound=1650.0, unit="GB/s",
            bound_source="half of the derived bandwidth",
        ),
        finding(
            "RP-INVALID", "unknown", "write-fp32: 9000 GB/s is more than the memory can carry.",
            device=first, case_id="write-fp32", figure=9000.0, bound=3300.0, unit="GB/s",
        ),
        finding("RP-UNSTABLE-BITS", "pass", "The same bits 100 times", device=cpu),
        Finding(
            code="RP-EXAMPLE-LOG", judgement="unknown", layer="health", required=False,
            device_id=second.device_id,
            sentence="The kernel's log may not be read here.", remedy="Run as root.",
        ),
    )  # fmt: skip
