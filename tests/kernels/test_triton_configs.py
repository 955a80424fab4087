"""Names of configurations: what they spell, and what the table holds for each row."""

from __future__ import annotations

import pytest

from roofprobe.kernels import lowering, triton_configs
from roofprobe.kernels.triton_configs import Config, config_for, config_named, configs_for

ROWS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "fp8-fast", "fp8", "int8")
HALF_AND_BYTE = ("tf32", "bf16", "fp16", "fp16-acc16", "fp8", "int8")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("128x256x64-w8-s3", Config(128, 256, 64, 8, 3)),
        ("64x64x16-w4-s2-g4", Config(64, 64, 16, 4, 2, group_m=4)),
        ("128x128x32-w4-s4-persistent-p2",
         Config(128, 128, 32, 4, 4, "persistent", programs_per_sm=2)),
        ("128x256x64-w8-s4-tma-e2",
         Config(128, 256, 64, 8, 4, "persistent-tma", epilogue_parts=2)),
        ("128x128x128-w4-s3-tma-p2-e4-full-ws",
         Config(128, 128, 128, 4, 3, "persistent-tma", programs_per_sm=2, epilogue_parts=4,
                full_sums=True, warp_specialize=True)),
    ],
)  # fmt: skip
def test_a_name_spells_its_configuration_both_ways(name: str, config: Config) -> None:
    assert config_named(name) == config
    assert config.name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fast", "names no configuration"),
        ("128x256x64-w8", "names no configuration"),
        ("128x256x64-w8-s4-tma-e3", "names no configuration"),
        ("128x256x64-w8-s4-g8", "is not how 128x256x64-w8-s4 is written"),
        ("128x256x64-w8-s4-p2", "only persistent kernels have -p"),
        ("128x256x64-w8-s4-persistent-e2", "only the kernel with tensor descriptors"),
    ],
)
def test_what_spells_no_configuration_is_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_named(name)


def test_the_best_guess_comes_first_and_no_candidate_twice() -> None:
    for arch in lowering.TABLE:
        for row in ROWS:
            candidates = configs_for(row, arch)
            assert config_for(row, arch) == candidates[0]
            assert len(set(candidates)) == len(candidates)


@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90", "sm_100", "sm_120", "gfx942"])
def test_matrix_rows_have_something_to_search(arch: str) -> None:
    for row in HALF_AND_BYTE:
        if lowering.expected_instruction(row, arch):
            assert 2 <= len(configs_for(row, arch)) <= 5


def test_hopper_begins_with_descriptors() -> None:
    for row in HALF_AND_BYTE:
        assert config_for(row, "sm_90").kernel == "persistent-tma"


@pytest.mark.parametrize("arch", lowering.FAST_SUMS)
def test_full_fp8_sums_are_kept_apart_where_the_unit_keeps_them_short(arch: str) -> None:
    for row in ("fp8", "fp8-rowwise"):
        assert all(config.full_sums for config in configs_for(row, arch))
        # The interval at which sums leave the unit is that of CUTLASS.
        assert {config.block_k for config in configs_for(row, arch)} == {128}
    for row in ("fp8-fast", "fp8-rowwise-fast", "bf16"):
        assert not any(config.full_sums for config in configs_for(row, arch))
    assert not any(config.full_sums for config in configs_for("fp8", "sm_100"))


def test_descriptors_and_warp_specialisation_stay_where_they_compile() -> None:
    for arch, rows in triton_configs._TABLE.items():
        for names in rows.values():
            for config in map(config_named, names):
                if config.kernel == "persistent-tma":
                    assert arch in ("sm_90", "sm_100", "sm_103", "sm_120")
                if config.warp_specialize:
                    assert arch == "sm_100"


def test_an_architecture_takes_what_it_lacks_from_its_relative() -> None:
    assert configs_for("bf16", "sm_103") == configs_for("bf16", "sm_100")
    assert configs_for("int8", "sm_103") != configs_for("int8", "sm_100")
    assert configs_for("fp64", "gfx950") == configs_for("fp64", "gfx942")


def test_an_unknown_architecture_gets_a_tile_that_fits_anywhere() -> None:
    assert [config.name for config in configs_for("bf16", "sm_999")] == ["64x64x32-w4-s2"]
