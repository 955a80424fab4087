import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.match import Match, UnknownAcceleratorError, find, identify

ROWS = list(load())
SHARED_NAME = ("huawei_ascend_910c_a_k", "huawei_ascend_910c_x_x")


def key_of(match: Match) -> str | None:
    return match.accelerator.key if match.accelerator else None


@pytest.mark.parametrize("row", [r for r in ROWS if r.pci_ids], ids=lambda row: row.key)
def test_every_pci_id_is_recognised_with_and_without_its_name(row: Accelerator) -> None:
    for pci_id in row.pci_ids:
        assert key_of(identify(pci_id=pci_id)) == row.key
        for name in row.driver_names:
            match = identify(name=name, pci_id=pci_id.upper())
            assert (key_of(match), match.how, match.contradiction) == (row.key, "pci+name", None)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r.driver_names and r.key not in SHARED_NAME], ids=lambda row: row.key
)
def test_every_driver_name_is_recognised_whole_and_in_any_case(row: Accelerator) -> None:
    for name in row.driver_names:
        for written in (name, name.upper(), name.replace(" ", "_")):
            match = identify(name=written)
            assert (key_of(match), match.how) == (row.key, "name")


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA A100X",
        "NVIDIA A100",
        "NVIDIA A100-PG509-200",
        "NVIDIA PG509-210",
        "NVIDIA A800 40GB Active",
        "NVIDIA A800-SXM4-40GB",
        "NVIDIA A10M",
        "NVIDIA A16",
        "NVIDIA A2",
        "NVIDIA A40-48Q",
        "NVIDIA RTX A4000",
        "NVIDIA RTX A6000",
        "NVIDIA A30X",
        "GRID T4-16Q",
        "GRID A100D-10C",
        "NVIDIA T400",
        "NVIDIA T4G",
        "NVIDIA L40G",
        "NVIDIA L20-48Q",
        "NVIDIA L2",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA GeForce RTX 5090 Laptop GPU",
        "NVIDIA RTX 6000",
        "Quadro RTX 6000",
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "NVIDIA RTX PRO 6000",
        "NVIDIA RTX 6000D",
        "NVIDIA H100",
        "NVIDIA H200 NVL",
        "NVIDIA H800 NVL",
        "NVIDIA H20 NVL16",
        "NVIDIA H2",
        "NVIDIA GH200",
        "NVIDIA B100",
        "NVIDIA GB10",
        "NVIDIA B30A",
        "AMD Instinct MI250",
        "AMD Instinct MI300",
        "AMD Instinct MI308X",
        "AMD Instinct MI100",
        "Ascend910B",
        "Ascend910",
        "",
        " ",
        "NVIDIA",
    ],
)
def test_look_alikes_do_not_match(name: str) -> None:
    match = identify(name=name)
    assert match.accelerator is None
    assert match.how == "none"
    assert match.reason


def test_the_h100_variant_of_meta_is_unknown() -> None:
    match = identify(name="NVIDIA H100", pci_id="10de:2339", pci_subsystem_id="10de:17fc")
    assert match.accelerator is None
    assert match.reason == "No catalogue row has PCI id 10de:2339 or name 'NVIDIA H100'."


def test_a_slice_is_not_the_card_even_with_the_cards_pci_id() -> None:
    match = identify(name="NVIDIA A100-SXM4-80GB MIG 1g.10gb", pci_id="10de:20b2")
    assert match.accelerator is None
    assert match.candidates == ("nvidia_a100_sxm4_80gb",)
    assert "part of a card" in match.reason
    assert identify(name="GRID T4-16Q", pci_id="10de:1eb8").accelerator is None


def test_fewer_units_or_less_memory_are_not_the_card() -> None:
    few = identify(name="NVIDIA A100-SXM4-80GB", pci_id="10de:20b2", unit_count=14)
    assert few.accelerator is None
    assert few.contradiction is not None
    assert "14 SM instead of 108" in few.contradiction
    small = identify(pci_id="10de:2335", memory_gib=95.0)
    assert small.accelerator is None
    assert "95.0 GiB of memory instead of 141 GB" in small.reason


@pytest.mark.parametrize(
    ("key", "gib"),
    [
        ("nvidia_t4", 14.56),
        ("nvidia_a10g", 22.06),
        ("nvidia_l40s", 44.40),
        ("nvidia_a100_sxm4_80gb", 79.15),
        ("nvidia_h200_sxm_141gb", 139.8),
        ("nvidia_h20_96gb", 95.0),
        ("nvidia_b300", 268.6),
        ("nvidia_gb200", 185.0),
        ("amd_mi300x", 191.98),
    ],
)
def test_the_memory_a_driver_really_shows_is_accepted(key: str, gib: float) -> None:
    assert key_of(identify(pci_id=load()[key].pci_ids[0], memory_gib=gib)) == key


def test_a_renamed_card_is_what_its_pci_id_says_and_the_contradiction_is_told() -> None:
    match = identify(name="NVIDIA H200", pci_id="10de:2329", unit_count=78, memory_gib=95.0)
    assert key_of(match) == "nvidia_h20_96gb"
    assert match.contradiction == (
        "The driver calls it 'NVIDIA H200', which is NVIDIA H200 SXM 141GB, but PCI id 10de:2329 "
        "is NVIDIA H20 96GB."
    )


def test_a_name_that_nvidia_never_gave_to_a_pci_id_is_told() -> None:
    match = identify(name="NVIDIA Superchip", pci_id="10de:2330")
    assert key_of(match) == "nvidia_h100_sxm5_80gb"
    assert match.contradiction is not None
    assert "none of its names" in match.contradiction


def test_a_known_name_with_an_unknown_pci_id_is_not_believed() -> None:
    match = identify(name="NVIDIA H200", pci_id="10de:1234")
    assert match.accelerator is None
    assert match.contradiction is not None
    assert "10de:2335, not 10de:1234" in match.contradiction


def test_another_product_on_the_same_pci_id_is_told_by_its_board() -> None:
    match = identify(pci_id="10de:20b2", pci_subsystem_id="10de:1625")
    assert match.accelerator is None
    assert "another product" in match.reason
    known = identify(pci_id="10de:20b2", pci_subsystem_id="10de:1463")
    assert key_of(known) == "nvidia_a100_sxm4_80gb"


def test_one_gcd_of_an_mi250x_is_half_a_module() -> None:
    match = identify(name="AMD Instinct MI250X", unit_count=110, memory_gib=63.98)
    assert match.accelerator is not None
    assert match.accelerator.dense["bf16_tensor"] == 191.5
    assert "one of 2 devices" in match.reason
    mi250 = identify(name="AMD Instinct MI250X/MI250", pci_id="1002:740c", unit_count=104)
    assert mi250.accelerator is None


def test_two_rows_of_one_name_are_not_guessed_between() -> None:
    match = identify(name="Ascend910_9391", memory_gib=64.0)
    assert match.accelerator is None
    assert match.candidates == SHARED_NAME


def test_nothing_reported_is_nothing_known() -> None:
    assert identify().reason == "The device reports neither a PCI id nor a name."
    assert identify(name="NVIDIA T4", pci_id="broken").accelerator is None


def test_zero_units_or_memory_count_as_not_reported() -> None:
    assert key_of(identify(pci_id="10de:2330", unit_count=0, memory_gib=0.0)) is not None


TEXT = st.none() | st.text(max_size=40) | st.sampled_from([n for r in ROWS for n in r.driver_names])
IDS = st.none() | st.text(max_size=12) | st.sampled_from([i for r in ROWS for i in r.pci_ids])
NUMBERS = st.none() | st.floats()


@settings(deadline=None, max_examples=200)
@given(TEXT, IDS, IDS, NUMBERS, st.none() | st.integers())
def test_identify_never_raises_and_always_gives_a_reason(
    name: str | None, pci: str | None, sub: str | None, gib: float | None, units: int | None
) -> None:
    match = identify(name=name, pci_id=pci, pci_subsystem_id=sub, memory_gib=gib, unit_count=units)
    assert match.reason
    assert (match.accelerator is None) == (match.how == "none")


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60) | TEXT.filter(lambda t: t is not None))
def test_find_raises_nothing_but_its_own_error(query: str) -> None:
    told: UnknownAcceleratorError | None = None
    try:
        assert find(query).key in load().accelerators
    except UnknownAcceleratorError as error:
        told = error
    if told is not None:
        assert len(told.candidates) <= 5
        assert "\n" not in str(told)
