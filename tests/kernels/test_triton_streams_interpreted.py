"""Our Triton streams do what they say in the interpreter, by the checks that precede a measurement.

Every kernel in each of its forms (a program per block, persistent, staged, through descriptors),
with whole and ragged ends. What the interpreter cannot show, the instructions, is tested ahead of
time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roofprobe.kernels import stream

Outcomes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    script = Path(__file__).with_name("interpreted_streams.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    found: Outcomes = json.loads(done.stdout)
    return found


def test_every_kernel_form_type_and_end_is_right(outcomes: Outcomes) -> None:
    assert {name: told["problem"] for name, told in outcomes.items() if told["problem"]} == {}
    assert len(outcomes) == 198
    kinds = {stream.BY_NAME[name.split()[0]].group for name in outcomes}
    assert kinds == {"stream", "gather", "strided", "cache"}


def test_every_element_is_checked_and_every_byte_counted(outcomes: Outcomes) -> None:
    for name, told in outcomes.items():
        kernel, _, precision, elements = name.split()
        row = stream.BY_NAME[kernel]
        passes = told["config"].get("passes", 1)
        assert passes == (3 if kernel == "l2-read" else 1)
        assert told["checked"] == passes * row.read_elements(precision, int(elements)), name
        read, written = stream.bytes_per_launch(kernel, precision, int(elements))
        assert (told["read"], told["written"]) == (passes * read, written), name


def test_a_copy_and_a_constant_are_exact(outcomes: Outcomes) -> None:
    exact = [told for name, told in outcomes.items() if name.split()[0] in ("copy", "write")]
    assert len(exact) == 2 * 17
    assert {(told["error"], told["tolerance"]) for told in exact} == {(0.0, 0.0)}


def test_sums_are_compared_program_by_program_in_the_type_of_the_sums(outcomes: Outcomes) -> None:
    for name, told in outcomes.items():
        if stream.BY_NAME[name.split()[0]].writes == 0:
            assert told["tolerance"] == (1e-12 if " fp64 " in name else 1e-5), name
            assert told["error"] < 1e-6, name


def test_a_page_smaller_than_a_block_of_a_descriptor_takes_more_stages(outcomes: Outcomes) -> None:
    from roofprobe.kernels.triton_gather import fitted
    from roofprobe.kernels.triton_stream_configs import config_named

    config = config_named("b16384-w4-g4-s3-tma")
    assert fitted(config, 4096).name == "b4096-w4-g4-s9-tma"
    assert fitted(config, 32768) == config
    assert fitted(config_named("b16384-w4-g4-s3"), 4096).name == "b16384-w4-g4-s3"


def test_a_record_names_the_configuration_and_the_sector(outcomes: Outcomes) -> None:
    told = next(t for n, t in outcomes.items() if n.startswith("strided-16 b4096-w4-g2 bf16"))
    assert told["config"] == {
        "sector_bytes": 32,
        "one_of": 16,
        "name": "b4096-w4-g2",
        "block": 2048,
        "num_warps": 4,
        "programs": 4,
    }
