from __future__ import annotations

import csv
import io
from typing import Any

from roofprobe.records.schema import (
    Environment,
    KernelIdentity,
    Note,
    Options,
    Run,
    Search,
    SearchStep,
)
from roofprobe.records.tables import COLUMNS, measurements_csv


def rows_of(*measurements: Any) -> list[dict[str, str]]:
    run = Run(
        run_id="r",
        status="complete",
        started_at="2000-01-01T00:00:00+00:00",
        options=Options(families=("compute",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        measurements=measurements,
    )
    return list(csv.DictReader(io.StringIO(measurements_csv(run).decode())))


def test_a_row_says_what_it_is_for_which_kernel_ran_and_at_which_clock(make: Any) -> None:
    identity = KernelIdentity(
        names=("kernel_a", "kernel_b"), library="cuBLAS", instruction="wgmma", fallback="Not fp8."
    )
    (row,) = rows_of(
        make(
            100.0, precision="fp8", row="fp8-rowwise", role="tune", scaling="rowwise",
            config="128x256", identity=identity, clock=1500.0, energy_j_per_tflop=0.5,
            notes=(Note(code="noisy", sentence="s"), Note(code="noisy", sentence="t")),
        )
    )  # fmt: skip
    told = {
        "row": "fp8-rowwise", "role": "tune", "scaling": "rowwise", "config": "128x256",
        "pipe": "tensor", "sparsity": "", "library": "cuBLAS", "instruction": "wgmma",
        "fallback": "Not fp8.", "kernel": "kernel_a kernel_b", "clock_mhz": "1500.0",
        "energy_j_per_tflop": "0.5", "notes": "noisy", "search_method": "",
    }  # fmt: skip
    assert {name: row[name] for name in told} == told
    assert tuple(row) == COLUMNS


def test_a_search_tells_what_it_found_and_no_rate_of_its_own(make: Any) -> None:
    search = Search(
        method="halving", route="torch.mm", seed=1, sentence="s", elapsed_s=2.5,
        candidates=64, pruned=32,
        best=(1024, 2048, 4096), best_tflops=99.0,
        steps=(SearchStep(stage="a", shape=(1, 2, 3), at_s=0, seconds=1),),
    )  # fmt: skip
    row, _ = rows_of(
        make(role="search", op="search", shape={}, status="ok", search=search), make(1.0)
    )
    assert [row[f"search_best_{axis}"] for axis in "mnk"] == ["1024", "2048", "4096"]
    assert (row["search_method"], row["search_candidates"]) == ("halving", "64")
    assert (row["search_elapsed_s"], row["search_best_tflops"]) == ("2.5", "99.0")
    assert (row["rate"], row["m"]) == ("", "")
