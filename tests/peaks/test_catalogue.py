import re
import subprocess
import sys
import time
from collections import Counter

import pytest

from roofprobe.peaks.catalogue import Accelerator, load
from roofprobe.peaks.precisions import PEAK_TITLES
from roofprobe.peaks.rates import load_rates
from roofprobe.peaks.sources import load_sources

ROWS = list(load())
by_key = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)


def test_the_catalogue_holds_every_accelerator() -> None:
    assert len(load()) == 54
    assert Counter(row.vendor for row in ROWS) == {"NVIDIA": 39, "AMD": 7, "Huawei": 6, "Intel": 2}
    assert sum(len(row.dense) for row in ROWS) == 332
    assert sum(len(row.sparse) for row in ROWS) == 106
    assert sum(len(row.conflicts) for row in ROWS) == 132


@by_key
def test_every_value_has_a_source_that_exists(row: Accelerator) -> None:
    own_words = {"key", "name", "vendor", "rate_class", "dense_basis", "aliases", "unit_kind"}
    own_words |= {"founding_column", "sources", "dense", "sparse", "conflicts"}
    known = load().sources
    paths = [f"dense.{key}" for key in row.dense] + [f"sparse.{key}" for key in row.sparse]
    for field in Accelerator.__dataclass_fields__:
        value = getattr(row, field)
        if field not in own_words and value not in (None, ()):
            paths.append(field)
    if row.devices_per_module == 1:
        paths.remove("devices_per_module")
    assert set(paths) == set(row.sources)
    for path in paths:
        assert row.sources[path]
        assert set(row.sources[path]) <= set(known), path


@by_key
def test_conflicts_name_sources_that_exist(row: Accelerator) -> None:
    for conflict in row.conflicts:
        assert conflict.values or conflict.note
        for value in conflict.values:
            assert value.sources
            assert set(value.sources) <= set(load().sources)


@by_key
def test_the_kept_value_is_one_of_the_conflicting_ones(row: Accelerator) -> None:
    for conflict in row.conflicts:
        kept = row.dense.get(conflict.field, getattr(row, conflict.field, None))
        found = {value.value for value in conflict.values}
        if kept is None or conflict.field in ("driver_names", "form_factor") or not found:
            continue
        assert kept in found or len(found) == 1, conflict.field


@by_key
def test_a_dense_peak_is_never_the_sparse_one(row: Accelerator) -> None:
    for key, sparse in row.sparse.items():
        # Twice, but for NVFP4 of Blackwell Ultra: 13500 dense beside 18000 sparse.
        if key in row.dense:
            assert 1.1 * row.dense[key] < sparse <= 2.1 * row.dense[key], key


@by_key
def test_neither_the_notes_nor_arithmetic_is_the_source_of_a_peak(row: Accelerator) -> None:
    for path, keys in row.sources.items():
        if path.startswith(("dense.", "sparse.")):
            assert not {load().sources[key].kind for key in keys} & {"notes", "derived"}, path


@by_key
def test_figures_have_a_sane_magnitude(row: Accelerator) -> None:
    assert row.mem_gb is not None
    assert 10 < row.mem_gb < 400
    if row.mem_bw_gbps is not None:
        assert 200 < row.mem_bw_gbps < 9000
    if row.unit_count is not None and row.boost_clock_mhz is not None:
        assert 1000 < row.boost_clock_mhz < 3000
    for peak in row.dense.values():
        assert 0.5 < peak < 20_000
    assert row.dense.keys() <= PEAK_TITLES.keys()


def test_keys_driver_names_and_pci_ids_are_unique_but_for_the_910c() -> None:
    ids = Counter(pci for row in ROWS for pci in row.pci_ids)
    assert max(ids.values()) == 1
    shared = {
        name
        for name, count in Counter(n.casefold() for row in ROWS for n in row.driver_names).items()
        if count > 1
    }
    assert all(re.fullmatch(r"ascend910_93\d\d", name) for name in shared)
    assert len({row.name for row in ROWS}) == 54


def test_a_few_figures_as_their_vendors_print_them() -> None:
    cat = load()
    assert cat["nvidia_h100_sxm5_80gb"].dense["bf16_tensor"] == 989.4
    assert cat["nvidia_h100_sxm5_80gb"].sparse["bf16_tensor"] == 1978.9
    assert cat["nvidia_b300"].dense["fp4_tensor"] == 13500
    assert cat["nvidia_a100_sxm4_80gb"].dense["fp64_tensor"] == 19.5
    assert cat["amd_mi300x"].dense["fp8_tensor"] == 2614.9
    assert cat["huawei_ascend_910b2_376t"].dense["bf16_tensor"] == 353.9
    assert cat["nvidia_h20_96gb"].mem_bw_gbps == 4000


@pytest.mark.parametrize(
    ("key", "gbps", "wrong"),
    [
        ("nvidia_geforce_rtx_5090", 1792, 1.792e6),
        ("nvidia_l4", 300, 3350),
        ("nvidia_h200_sxm_141gb", 4800, 3350),
        ("nvidia_rtx_pro_6000_blackwell_server", 1597, 1792),
        ("nvidia_b200", 7700, 4100),
        ("amd_mi300x", 5300, 10300),
    ],
)
def test_the_known_errors_of_public_bandwidth_tables_are_not_ours(
    key: str, gbps: float, wrong: float
) -> None:
    assert load()[key].mem_bw_gbps == gbps != wrong


@pytest.mark.parametrize(
    ("key", "peak", "right", "wrong"),
    [
        ("nvidia_h100_sxm5_80gb", "bf16_tensor", 989.4, 1979),
        ("nvidia_h100_sxm5_80gb", "tf32", 494.7, 156),
        ("nvidia_l4", "bf16_tensor", 121, 242),
        ("nvidia_a10g", "fp16_tensor", 70, 125),
        ("nvidia_b300", "int8", 153.5, 4500),
        ("nvidia_geforce_rtx_4090", "fp16_tensor", 165.2, 330),
        ("nvidia_l40s", "fp8_tensor", 733, 1466),
    ],
)
def test_the_known_errors_of_public_peak_tables_are_not_ours(
    key: str, peak: str, right: float, wrong: float
) -> None:
    assert load()[key].dense[peak] == right != wrong


def test_what_nobody_published_is_absent() -> None:
    cat = load()
    assert cat["nvidia_h800_pcie_80gb"].dense == {}
    assert cat["huawei_ascend_910b1"].dense == {}
    assert cat["huawei_ascend_910b1"].mem_bw_gbps is None
    assert "fp64" not in cat["nvidia_h800_sxm5_80gb"].dense
    assert "fp8_tensor" not in cat["nvidia_l20"].dense
    assert cat["nvidia_a10g"].tdp_w is None


def test_import_is_cheap_and_reading_is_lazy() -> None:
    code = (
        "import sys; import roofprobe.peaks.catalogue as c, roofprobe.peaks.match, "
        "roofprobe.peaks.derive, roofprobe.peaks.cpu;"
        "assert c.load.cache_info().currsize == 0;"
        "heavy = {'torch','numpy','pandas','pydantic','rich','triton','pynvml'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_whole_catalogue_is_read_quickly_and_once() -> None:
    times = []
    for _ in range(3):
        for cached in (load, load_rates, load_sources):
            cached.cache_clear()
        start = time.perf_counter()
        load()
        times.append(time.perf_counter() - start)
    assert min(times) < 0.25  # about 0.04 s on one quiet core
    assert load() is load()
