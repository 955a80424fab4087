"""Model shapes by name: every preset loads, a name matches exactly or not at all."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import Any

import pytest

from roofprobe.costmodel.models import load_model, preset_names
from roofprobe.records.errors import RoofprobeError


def test_the_models_of_the_founding_notes_and_the_current_families_are_presets() -> None:
    assert set(preset_names()) >= {
        "llama-2-7b",
        "llama-2-13b",
        "llama-2-70b",
        "gpt-3-175b",
        "deepseek-v3",
        "deepseek-r1",
        "deepseek-r1-distill-qwen-1.5b",
        "deepseek-r1-distill-qwen-7b",
        "deepseek-r1-distill-qwen-14b",
        "deepseek-r1-distill-qwen-32b",
        "llama-3.1-8b",
        "llama-3.1-70b",
        "llama-3.1-405b",
        *(f"qwen3-{size}" for size in ("0.6b", "1.7b", "4b", "8b", "14b", "32b")),
        "qwen3-30b-a3b",
        "qwen3-235b-a22b",
        "mixtral-8x7b",
        "mixtral-8x22b",
        "gpt-oss-20b",
        "gpt-oss-120b",
        "mistral-7b",
        *(f"qwen2.5-{size}" for size in ("7b", "32b", "72b")),
    }


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_of_a_known_architecture_and_says_where_its_sizes_stand(name: str) -> None:
    shape = load_model(name)
    assert shape.name == name
    assert shape.approximate is None
    assert shape.source


@pytest.mark.parametrize(
    "name",
    [
        "llama-3.1-8b",
        "Llama-3.1-8B",
        " LLAMA 3.1_8b ",
        "Llama-3.1-8B-Instruct",
        "Meta-Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B-Instruct",
        "META-LLAMA/meta-llama-3.1-8b",
    ],
)
def test_a_preset_is_found_by_name_and_hub_id_whatever_the_case(name: str) -> None:
    assert load_model(name).name == "llama-3.1-8b"


@pytest.mark.parametrize(
    "name",
    [
        "llama-3.1-8",
        "llama-3.1-80b",
        "llama-3.18b",
        "llama-3-8b",
        "my-llama-3.1-8b",
        "llama-3.1-8b-lite",
        "someone/Llama-3.1-8B",
        "qwen3-30b",
        "qwen3-3",
        "deepseek-v3.2",
        "deepseek-v",
        "gpt-oss",
        "mixtral-8x7",
        "",
        "\0",
        "x" * 100_000,
    ],
)
def test_a_name_that_only_looks_like_a_preset_is_none(name: str) -> None:
    with pytest.raises(RoofprobeError, match=r"No model is called .*config\.json\.") as caught:
        load_model(name)
    assert caught.value.code == "unknown-model"
    assert len(caught.value.sentence) < 1500


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(RoofprobeError, match=r"did you mean qwen3-30b-a3b"):
        load_model("qwen3-30b-a3")
    with pytest.raises(RoofprobeError, match=r"did you mean qwen3-30b-a3b or "):
        load_model("Qwen3-30B")
    with pytest.raises(RoofprobeError, match=r"known: .*llama-3\.1-8b"):
        load_model("?")


def test_the_data_files_are_in_the_package() -> None:
    data = importlib.resources.files("roofprobe.costmodel") / "data"
    assert (data / "architectures.toml").is_file()
    families = {file.name for file in (data / "models").iterdir()}
    assert families == {"deepseek.toml", "gpt.toml", "llama.toml", "mistral.toml", "qwen.toml"}


def test_the_example_in_the_documentation_runs_and_shows_what_it_says() -> None:
    text = (Path(__file__).parents[2] / "docs/model-shapes.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["kv_bytes_per_token"](names["shape"], "bf16") == 131072
    assert "# 131072" in example
