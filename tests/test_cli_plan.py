"""``probe plan`` as a user meets it: documents, exit codes and one sentence for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLAN = ("plan", "--model", "llama-3.1-8b", "--gpu", "H100 SXM")


def probe(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    file = tmp_path / "cases.csv"
    file.write_text(
        "model,tp,concurrency\nllama-3.1-8b,1,8\nno-such,1,\nllama-3.1-8b,3,\nllama-3.1-8b,nan,\n"
        "llama-3.1-70b,4,\n"
    )
    return file


def test_one_case_is_one_object() -> None:
    done = probe(*PLAN, "--concurrency", "8", "--precision", "bf16", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["concurrency"] == 8


def test_a_file_is_an_array_in_order_with_errors_in_their_places(cases: Path) -> None:
    done = probe("plan", "--gpu", "H100 SXM", "--cases", cases, "--output-len", "99", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one.get("error", {}).get("code") for one in found] == [
        None, "unknown-model", "bad-parallelism", "bad-value", None,
    ]  # fmt: skip
    assert [one["output_len"] for one in found] == [99] * 3 + [99, 99]


def test_people_get_a_sheet_or_a_table(cases: Path) -> None:
    sheet, table = probe(*PLAN), probe("plan", "--gpu", "H100 SXM", "--cases", cases)
    assert "80 % interval" in sheet.stdout
    assert "5 cases on" in table.stdout
    assert "tp=3 does not divide the 32 heads" in " ".join(table.stdout.split())
    for done in (sheet, table):
        assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("plan", "--model", "llama-3.1-8b"), "--gpu NAME"),
        (("plan", "--gpu", "H100 SXM"), "No model is named"),
        (("plan", "--model", "lama", "--gpu", "H100 SXM"), "No model is called 'lama'"),
        (("plan", "--model", "llama-3.1-8b", "--gpu", "Voodoo 2"), "Voodoo 2"),
        ((*PLAN, "--tp", "5"), "does not divide the 32 heads"),
        ((*PLAN, "--batch", "2", "--concurrency", "2"), "exclude each other"),
        ((*PLAN, "--input-len", "999999999"), "at most"),
        ((*PLAN, "--input-len", "0"), "at least 1"),
        ((*PLAN, "--precision", "fp7"), "not known"),
        ((*PLAN, "--cases", "none.csv"), "cannot read none.csv"),
        ((*PLAN, "--calibration", "none.json"), "cannot read none.json"),
        (("plan", "--model", "llama-3.1-405b", "--gpu", "H100 SXM"), "does not fit"),
    ],
)
def test_what_cannot_be_planned_ends_with_one_sentence_and_code_2(
    arguments: tuple[str, ...], sentence: str
) -> None:
    done = probe(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    as_json = probe(*arguments, "--json")
    assert as_json.returncode == 2
    assert json.loads(as_json.stdout)["error"]["sentence"] in done.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("model\n", "no case below it"),
        ("model,speed\na,1\n", "columns that no case has: 'speed'"),
    ],
)
def test_a_file_without_cases_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "cases.csv"
    file.write_text(text)
    done = probe("plan", "--gpu", "H100 SXM", "--cases", file)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_an_unknown_architecture_is_planned_only_when_that_is_allowed(tmp_path: Path) -> None:
    config = {
        "model_type": "novel", "architectures": ["NovelForCausalLM"], "hidden_size": 1024,
        "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 4,
        "intermediate_size": 4096, "vocab_size": 32000,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused = probe("plan", "--model", tmp_path, "--gpu", "H100 SXM")
    assert refused.returncode == 2
    assert "--allow-approximate" in refused.stderr
    allowed = probe(
        "plan", "--model", tmp_path, "--gpu", "H100 SXM", "--allow-approximate", "--json"
    )
    assert allowed.returncode == 0, allowed.stderr
    assert any("novel" in said.lower() for said in json.loads(allowed.stdout)["out_of_range"])
