from roofprobe.records.schema import Run
from roofprobe.reporting.facts import device_facts, device_line, observed_facts, run_facts

GPU = "GPU-00000000-example"


def test_the_device_line_tells_what_decides_the_figures(example_run: Run) -> None:
    gpu, cpu = example_run.devices
    assert device_line(gpu) == (
        "sm_00 · 100 SMs · 100 GiB memory · driver 000.00 · limit 500 W · ECC on"
    )
    assert device_line(cpu) == "2 cores · 8.00 GiB memory"


def test_what_is_not_known_is_left_out_and_why_is_told(example_run: Run) -> None:
    facts = {fact.label: fact.text for fact in device_facts(example_run.devices[1])}
    assert facts["power not told"] == "The host does not tell."
    assert "driver, runtime" not in facts
    assert "PCIe at most" not in facts


def test_clocks_and_power_span_all_measurements(example_run: Run) -> None:
    facts = {fact.label: fact.text for fact in observed_facts(example_run, GPU)}
    assert facts == {
        "clock reported": "1480–1520 MHz",
        "power seen": "300–500 W",
        "temperature seen": "40–60 °C",
        "throttling seen": "sw-power-cap",
    }
    assert observed_facts(example_run, "cpu") == ()


def test_the_run_tells_versions_seed_and_what_was_asked_for(example_run: Run) -> None:
    facts = {fact.label: fact.text for fact in run_facts(example_run)}
    assert facts["seed"] == "7"
    assert facts["versions of method, schema"] == "1, 1"
    assert facts["measured"] == "compute, memory, tier standard"
    assert facts["EXAMPLE_VARIABLE"] == "1"
