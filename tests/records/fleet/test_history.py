"""What a fleet remembers of a metric, and what SQL may and may not do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.history import (
    Opened,
    Series,
    Wanted,
    history,
    matching,
    metrics_in,
    opened,
    select,
    standing_refused,
)
from roofprobe.records.fleet.merge import merge

Write = Callable[..., None]


def distribution(median: float, unit: str) -> dict[str, Any]:
    return {
        "unit": unit,
        "median": median,
        "ci_low": median * 0.99,
        "ci_high": median * 1.01,
        "n": 9,
    }


def run_of(host: str, day: int, gpus: dict[str, float], **changed: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "run_id": f"2026010{day}T000000Z-{host}",
        "status": "complete",
        "started_at": f"2026-01-0{day}T00:00:00+00:00",
        "environment": {"host": host, "roofprobe": "0.1.0"},
        "devices": [
            {
                "device_id": gpu, "backend": "cuda", "name": "NVIDIA H100", "index": index,
                "driver": changed.get("driver", "580.1"), "catalogue_key": "h100-sxm",
                "limits": {"power_limit_w": 700.0},
            }
            for index, gpu in enumerate(gpus)
        ],
        "headlines": [
            {
                "device_id": gpu, "family": "compute", "label": "bf16", "regime": "burst",
                "rate": distribution(rate, "TFLOPS"), "energy_j_per_tflop": 900 / rate,
            }
            for gpu, rate in gpus.items()
        ],
        "method_version": changed.get("method_version", 1),
        "simulated": changed.get("simulated"),
    }  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*runs: dict[str, Any]) -> None:
        for run in runs:
            folder = tmp_path / "runs" / str(run["run_id"])
            folder.mkdir(parents=True)
            (folder / "run.json").write_text(json.dumps(run))

    return written


def found_in(source: Path | str, wanted: Wanted) -> tuple[Series, ...]:
    with opened(str(source)) as fleet:
        return history(fleet.connection, wanted)


def test_a_series_is_in_order_of_time_with_its_conditions(write: Write, tmp_path: Path) -> None:
    write(run_of("a", 2, {"GPU-1": 660}, driver="581.0"), run_of("a", 1, {"GPU-1": 600}))
    (series,) = found_in(tmp_path / "runs", Wanted("compute bf16 burst"))
    assert [point.value for point in series.points] == [600, 660]
    assert [point.driver for point in series.points] == ["580.1", "581.0"]
    assert (series.unit, series.sku, series.points[0].power_limit_w) == ("TFLOPS", "h100-sxm", 700)
    assert series.effect(1, 0) == pytest.approx(0.1)


def test_where_lower_is_better_a_rise_is_a_loss(write: Write, tmp_path: Path) -> None:
    write(run_of("a", 1, {"GPU-1": 600}), run_of("a", 2, {"GPU-1": 500}))
    (series,) = found_in(tmp_path / "runs", Wanted("compute bf16 energy"))
    assert series.effect(1, 0) == pytest.approx(-0.2)


def test_figures_of_different_methods_are_not_compared(write: Write, tmp_path: Path) -> None:
    write(
        run_of("a", 1, {"GPU-1": 600}),
        run_of("a", 2, {"GPU-1": 300}, method_version=2),
        run_of("a", 3, {"GPU-1": 303}, method_version=2),
    )
    (series,) = found_in(tmp_path / "runs", Wanted("compute bf16 burst"))
    assert series.effect(1, 0) is None
    assert series.effect(2, 1) == pytest.approx(0.01)
    assert series.first_of_method == 1


def test_a_gpu_keeps_its_series_when_it_moves_and_a_cpu_does_not(
    write: Write, tmp_path: Path
) -> None:
    write(run_of("a", 1, {"GPU-1": 600, "cpu": 1}), run_of("b", 2, {"GPU-1": 601, "cpu": 2}))
    found = found_in(tmp_path / "runs", Wanted("compute bf16 burst"))
    assert [(s.device_id, [p.host for p in s.points]) for s in found] == [
        ("GPU-1", ["a", "b"]), ("cpu", ["a"]), ("cpu", ["b"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "values"),
    [
        ({"gpu": "gpu-1"}, [600]),
        ({"gpu": "GPU-"}, [600, 610, 620]),
        ({"sku": "h100-sxm"}, [600, 610, 620]),
        ({"sku": "NVIDIA H100"}, [600, 610, 620]),
        ({"host": "b"}, [620]),
        ({"since": date(2026, 1, 2)}, [620]),
    ],
)
def test_figures_can_be_narrowed(
    write: Write, tmp_path: Path, wanted: dict[str, Any], values: list[float]
) -> None:
    write(run_of("a", 1, {"GPU-1": 600, "GPU-2": 610}), run_of("b", 2, {"GPU-3": 620}))
    found = found_in(tmp_path / "runs", Wanted("bf16 burst", **wanted))
    assert sorted(point.value for series in found for point in series.points) == values


@pytest.mark.parametrize("wanted", [{"gpu": "GPU-9"}, {"sku": "h10-sxm"}, {"host": "aa"}])
def test_what_is_not_there_is_told_with_what_is(
    write: Write, tmp_path: Path, wanted: dict[str, Any]
) -> None:
    write(run_of("a", 1, {"GPU-1": 600}))
    with pytest.raises(RoofprobeError, match=r"there are 1, such as (GPU-1|h100-sxm|a)"):
        found_in(tmp_path / "runs", Wanted("bf16 burst", **wanted))


NAMES = (
    "compute bf16 burst",
    "compute bf16 settled",
    "compute fp8 burst",
    "memory read fp32 burst",
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("compute bf16 burst", NAMES[:1]),
        ("  Compute  BF16 burst ", NAMES[:1]),
        ("compute * burst", (NAMES[0], NAMES[2])),
        ("bf16", NAMES[:2]),
        ("burst fp32", NAMES[3:]),
    ],
)
def test_a_metric_is_found_by_name_pattern_part_or_words(
    pattern: str, found: tuple[str, ...]
) -> None:
    assert matching(pattern, NAMES) == found


def test_an_unknown_metric_is_told_with_near_names() -> None:
    with pytest.raises(RoofprobeError, match="near it: compute bf16 burst"):
        matching("compute bf61 burst", NAMES)
    with pytest.raises(RoofprobeError, match="lists those"):
        matching("", NAMES)


def test_metrics_are_listed_with_how_much_there_is(write: Write, tmp_path: Path) -> None:
    write(run_of("a", 1, {"GPU-1": 600, "GPU-2": 610}), run_of("a", 2, {"GPU-1": 620}))
    with opened(str(tmp_path / "runs")) as fleet:
        burst = metrics_in(fleet.connection)[0]
    assert (burst.metric, burst.n_figures, burst.n_devices) == ("compute bf16 burst", 3, 2)


@pytest.fixture(params=["folder", "file://", "memory://"])
def fleet(request: pytest.FixtureRequest, write: Write, tmp_path: Path) -> str:
    """A fleet of one figure, of every kind of place that needs no network."""
    write(run_of("a", 1, {"GPU-1": 600}))
    places = {
        "folder": str(tmp_path / "fleet's"),
        "file://": (tmp_path / "fleet").as_uri(),
        "memory://": f"memory://{uuid.uuid4().hex}",
    }
    where = places[request.param]
    merge([tmp_path / "runs"], where)
    return where


def test_a_fleet_is_read_wherever_it_lies(fleet: str) -> None:
    with opened(fleet) as found:
        (series,) = history(found.connection, Wanted("bf16 burst"))
        said = select(found, "SELECT host, value FROM metrics WHERE quantity = 'burst'")
    assert series.points[0].value == 600
    assert (said.columns, said.rows, said.more) == (("host", "value"), (("a", 600.0),), False)


HOSTILE = (
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('file:///etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_text('{fleet}/manifest.json')",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM read_json('memory://other/x.json')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
    "SELECT * FROM query('COPY metrics TO ''{out}''')",
    "SELECT * FROM statements",
    "COPY metrics TO '{out}'",
    "COPY (SELECT 1) TO '{out}'",
    "EXPORT DATABASE '{out}'",
    "ATTACH '{out}' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access=true",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CREATE TABLE mine AS SELECT 1",
    "DROP VIEW metrics",
    "DELETE FROM excluded",
    "EXPLAIN SELECT 1",
    "VACUUM",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY metrics TO '{out}'",
    "",
    "-- nothing",
    "SELEC 1",
)


@pytest.mark.parametrize("sql", HOSTILE)
def test_sql_reaches_nothing_but_the_fleet(write: Write, tmp_path: Path, sql: str) -> None:
    write(run_of("a", 1, {"GPU-1": 600}))
    merge([tmp_path / "runs"], tmp_path / "fleet")
    before = sorted(tmp_path.rglob("*"))
    statements = [["a variable of ours"]]
    with opened(str(tmp_path / "fleet")) as found, pytest.raises(RoofprobeError) as error:
        select(found, sql.format(fleet=tmp_path / "fleet", out=tmp_path / "out"))
    assert error.value.code == "bad-sql"
    assert error.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before
    assert statements


def test_what_was_closed_stays_closed(fleet: str) -> None:
    import duckdb

    with opened(fleet) as found:
        select(found, "SELECT 1")
        for setting in ("enable_external_access=true", "lock_configuration=false",
                        "allowed_paths=['/etc/passwd']"):  # fmt: skip
            with pytest.raises(duckdb.Error):
                found.connection.execute(f"SET {setting}")


def test_a_select_is_cut_where_it_is_told_to(fleet: str) -> None:
    def rows(found: Opened, most: int) -> tuple[int, bool]:
        said = select(found, "FROM range(3)", most=most)
        return len(said.rows), said.more

    for most, expected in ((2, (2, True)), (3, (3, False))):
        with opened(fleet) as found:
            assert rows(found, most) == expected


def test_a_place_without_a_fleet_is_told(tmp_path: Path) -> None:
    for source in (str(tmp_path / "nowhere"), "memory://nothing-here"):
        with pytest.raises(RoofprobeError, match="there is no"), opened(source):
            pass


def test_a_broken_part_is_the_fleets_damage_not_the_questions(write: Write, tmp_path: Path) -> None:
    write(run_of("a", 1, {"GPU-1": 600}))
    merge([tmp_path / "runs"], tmp_path / "fleet")
    for part in (tmp_path / "fleet/parts").glob("*.metrics.parquet"):
        part.unlink()
    with (
        pytest.raises(RoofprobeError, match="is missing or broken"),
        opened(str(tmp_path / "fleet")) as found,
    ):
        select(found, "SELECT * FROM metrics")


def test_a_refused_file_that_was_merged_since_is_refused_no_more(
    write: Write, tmp_path: Path
) -> None:
    write(run_of("a", 1, {"GPU-1": 600}), run_of("b", 1, {"GPU-2": 600}))
    files = sorted((tmp_path / "runs").glob("*/run.json"))
    whole = [file.read_bytes() for file in files]
    for file in files:
        file.write_bytes(b"{}")
    merge([tmp_path / "runs"], tmp_path / "fleet")
    files[0].write_bytes(whole[0])
    merge([tmp_path / "runs"], tmp_path / "fleet")
    with opened(str(tmp_path / "fleet")) as found:
        assert [each.source for each in standing_refused(found)] == [str(files[1])]
