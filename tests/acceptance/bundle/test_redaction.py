"""What identifies a customer never survives; what identifies a device, and every figure, does."""

from __future__ import annotations

import json
import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from roofprobe.acceptance.bundle.redaction import KEEPABLE, Redactor
from roofprobe.acceptance.bundle.redaction_words import vocabulary
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Run

GPU = "GPU-8f3a0000-1111-2222-3333-444455556666"


word = st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=8)
number = st.integers(1, 254)
secrets = {
    "host": st.builds("{}{:02d}".format, word, number),
    "ip": st.builds("10.{}.{}.{}".format, number, number, number),
    "ipv6": st.builds("2001:db8::{:x}:{:x}".format, number, number),
    "mac": st.builds("02:1b:{:02x}:{:02x}:3a:b7".format, number, number),
    "path": st.builds("/{}/{}/run.d/{}.json".format, st.sampled_from(["home", "mnt", "data"]),
                      word, word),
    "user path": st.builds("~/{}/{}".format, word, word),
    "serial": st.integers(10**12, 10**13 - 1).map(str),
    "machine": st.uuids().map(str),
    "url": st.builds("https://{}.example:8443/{}?k=v".format, word, word),
    "login": st.builds("{}@{}7".format, word, word),
    "token": st.text("abcdefABCDEF0123456789", min_size=20, max_size=30).map("hf_{}".format),
}  # fmt: skip
QUICK = (Phase.explicit, Phase.generate)
between = st.sampled_from([" ", ", ", "(", "'", '"', " = ", "\n", "; ", "[", "|"])


@settings(max_examples=60, deadline=None, derandomize=True, phases=QUICK)
@given(st.fixed_dictionaries(secrets), between, st.integers(0, 1 << 30))
def test_planted_values_survive_in_no_text_of_a_record(
    documents: ModuleType, planted: dict[str, str], edge: str, seed: int
) -> None:
    values, chance = list(planted.values()), random.Random(seed)

    def text() -> str:
        chosen = chance.sample(values, k=2)
        return f"in{edge}{chosen[0]}{edge} and {GPU}, then {chosen[1]}"

    record = documents.fill(Run, text)
    record["environment"]["host"] = planted["host"]
    record["command"] = ["probe", "all", "--out", planted["path"]]
    redactor = Redactor()
    redactor.learn(record)
    done = redactor.document(record)
    said = json.dumps(done, ensure_ascii=False)
    for kind, value in planted.items():
        assert value not in said, (kind, value)
    assert said.count(GPU) == json.dumps(record).count(GPU)
    assert Run.model_validate(done).measurements, "the record is still one"


def test_the_same_value_is_the_same_placeholder_everywhere() -> None:
    redactor = Redactor()
    redactor.learn({"environment": {"host": "node-17.acme.example"}})
    first = redactor.text("node-17 cannot reach 10.0.0.7 from /srv/acme/run")
    assert first == "host-1 cannot reach ip-1 from path-1"
    assert redactor.text("10.0.0.7 NODE-17.acme.example /srv/acme/run/") == "ip-1 host-1 path-1"
    assert redactor.text("10.0.0.8") == "ip-2"
    assert redactor.counts()["ips"] == {"values": 2, "occurrences": 3}


@pytest.mark.parametrize(
    "text",
    [
        f"{GPU} at 00000000:1B:00.0, 0000:1b:00.0 and 10de:2330",
        "MIG-8f3a0000-1111-2222-3333-444455556666",
        "gemm/fp32/torch.mm/4096x4096x4096 at 1.5 GB/s, and/or 3 / 4",
        "void at::native::vectorized_elementwise_kernel<4>(int)",
        "2026-11-26T05:11:00+00:00, 05:11:00",
        "collective/all_reduce/bf16/x8/1073741824",
        "listens on 127.0.0.1 and ::1",
        "1099511627776 bytes",
        "a/b, 3 GB/s, i-th, sg-1, top-p/8x32000, M * N / K",
    ],
)
def test_what_names_no_one_stays(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("File \"/opt/v/lib/python3.11/site-packages/torch/nn.py\", line 3",
         "File \"path-1/torch/nn.py\", line 3"),
        ("PATH=/usr/bin:/opt/x/bin", "PATH=path-1:path-2"),
        ("gcc -I/usr/include/acme x.c", "gcc -Ipath-1 x.c"),
        ("file:///data/a.b:12", "path-1:12"),
        ("HF_TOKEN=abcdefgh and PASSWORD: 'x y'", "HF_TOKEN=secret-1 and PASSWORD: secret-2"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer secret-1"),
        ("serial number: AB12345, S/N: 0324518", "serial number: serial-1, S/N: serial-2"),
        ("ip-10-0-3-4.eu-west-1.compute.internal is down", "host-1 is down"),
        ("see C:\\Users\\bob\\x", "see path-1"),
        ("[::ffff:10.0.0.7]:80", "[ip-1]:80"),
        ("mail wilma@example.com now", "mail user-1 now"),
        ("in ../wilma/foo and ../../x", "in path-1 and path-2"),
        (r"on \\server\share\x y", "on path-1 y"),
        ("open /mnt/data/wilma/x y/z failed", "open path-1 failed"),
        ("open '/mnt/data/a b, c' and '/x'", "open 'path-1' and 'path-2'"),
        ("i-0abcd1234ef567890 of projects/acme-prod/zones/z is down", "host-1 of host-2 is down"),
        ("arn:aws:ec2:eu:1:instance/x", "host-1"),
        ("wrote /srv/x GB/s and/or more", "wrote path-1 GB/s and/or more"),
        ("container 0123456789abcdef" + "0123456789abcdef" * 3, "container container-1"),
    ],
)  # fmt: skip
def test_forms_are_recognised(text: str, expected: str) -> None:
    assert Redactor().text(text) == expected


def test_the_commands_paths_are_known_even_where_they_are_relative() -> None:
    redactor = Redactor()
    command = ["probe", "all", "--out", "acme", "--calibration=acme tests/c.json", "--seed", "1"]
    done = redactor.document(learnt(redactor, {"command": command, "x": "written to acme"}))
    assert done["command"][2:5] == ["--out", "path-1", "--calibration=path-2"]
    assert done["command"][5:] == ["--seed", "1"]
    assert done["x"] == "written to path-1"


def learnt(redactor: Redactor, document: Any) -> Any:
    redactor.learn(document)
    return document


def test_users_are_found_by_their_folders() -> None:
    redactor = Redactor()
    redactor.learn_text("cannot open /home/wilma/x")
    assert redactor.text("wilma, /home/wilma/x") == "user-1, path-1"


def test_variables_that_are_secrets_go_and_versions_stay() -> None:
    document = {
        "variables": {"MY_API_KEY": "short", "OMP_NUM_THREADS": "8", "X": "/srv/a"},
        "libraries": {"nvidia-cublas": "13.1.0.3"},
        "driver": "580.159.3.1",
    }
    done = Redactor().document(document)
    assert done["variables"] == {"MY_API_KEY": "secret-1", "OMP_NUM_THREADS": "8", "X": "path-1"}
    assert (done["libraries"], done["driver"]) == (document["libraries"], document["driver"])


@pytest.mark.parametrize("host", ["cpu", "compute", "ok", "l2", "run", "uniform", "fp32"])
def test_a_host_named_like_a_word_of_the_record_does_not_break_it(
    documents: ModuleType, host: str
) -> None:
    record = documents.fill(Run, lambda: "plain")
    record["environment"]["host"] = host
    redactor = Redactor()
    redactor.learn(record)
    done = redactor.document(record)
    Run.model_validate(done)
    assert done["environment"]["host"] == "host-1"


def test_a_placeholder_is_never_a_word_that_was_there_before() -> None:
    redactor = Redactor()
    redactor.learn({"environment": {"host": "secret.acme"}, "x": "host-1 is a rack"})
    assert redactor.text("host-1 and secret.acme") == "host-1 and host-2"


@pytest.mark.parametrize("kind", KEEPABLE)
def test_a_kind_that_is_kept_stays_and_the_others_go(kind: str) -> None:
    samples = {
        "host": "node-17.acme", "serials": "1654922006536", "paths": "/srv/acme/x",
        "ips": "10.0.0.7",
    }  # fmt: skip
    redactor = Redactor([kind])
    redactor.learn({"environment": {"host": samples["host"]}})
    text = redactor.text(" ".join(samples.values()))
    assert {name: value in text for name, value in samples.items()} == {
        name: name == kind for name in samples
    }


def test_an_unknown_kind_gives_one_sentence() -> None:
    with pytest.raises(RoofprobeError, match="nothing called 'names' can be kept"):
        Redactor(["names"])


@pytest.mark.parametrize("host", ["gpu-node-07", "gpu-node-07.corp.example.com"])
def test_the_whole_dotted_name_of_a_host_is_one_placeholder(host: str) -> None:
    redactor = Redactor()
    redactor.learn({"environment": {"host": host}})
    text = "gpu-node-07.corp.example.com, gpu_node_07, GPU-NODE-07. log: gpu-node-07.log"
    assert redactor.text(text) == "host-1, host-1, host-1. log: host-1.log"
    assert "corp" not in redactor.text("wilma@gpu-node-07.corp.example.com")


def test_other_hosts_of_a_known_domain_are_hosts() -> None:
    redactor = Redactor(known={"a-1.corp.example.com": "host", "wilma": "user"})
    assert redactor.text("b-2.corp.example.com at corp.example.com") == "host-1 at host-2"
    assert redactor.text("wilma@example.com") == "user-1"


RECORD = {
    "environment": {"host": "top-p"},
    "planned": {"cpu": ["llm/sample/fp32/top-p/1x8192"]},
    "measurements": [{"case": {"case_id": "collective/all_reduce/fp32/x8/8", "op": "all_reduce"}}],
    "note": "of llm/sample/fp32/top-p/1x8192, collective/all_reduce/fp32/x8/8.",
}


def test_the_ids_and_words_of_cases_stay_whatever_looks_like_them() -> None:
    redactor = Redactor(known={"all_reduce": "user", "sample": "host"})
    done = redactor.document(learnt(redactor, RECORD))
    assert done == RECORD | {"environment": {"host": "host-1"}}
    assert redactor.text("all_reduce on top-p in /srv/llm/sample/fp32/top-p/1x8192") == (
        "all_reduce on host-1 in path-1"
    )
    assert Redactor().text("top-p/1x8192 -L/opt/x") == "top-p/1x8192 -Lpath-1"


@pytest.mark.parametrize("private", ["10.9.8.7", "wilma@acme", "hf_0123456789abcdefghij"])
def test_what_identifies_someone_is_no_id_of_a_case(private: str) -> None:
    redactor = Redactor()
    done = redactor.document(learnt(redactor, {"case_id": f"memory/{private}/x"}))
    assert private not in json.dumps(done)


def test_counts_and_names_of_fields_are_no_secrets() -> None:
    document = {
        "tokens": {"low": 1, "high": "128"}, "credentials": {"compute": 3, "low": "x"},
        "max_tokens": "high", "variables": {"TOKENIZERS_PARALLELISM": "false"},
        "sentence": "the figure is too low, at high clocks; tokens: 128",
    }  # fmt: skip
    redactor = Redactor()
    assert redactor.document(learnt(redactor, document)) == document


def test_values_of_secrets_go_wherever_they_stand() -> None:
    document = {"api_token": "hunter22", "secret": ["swordfish"], "x": "hunter22, swordfish"}
    redactor = Redactor()
    assert redactor.document(learnt(redactor, document)) == {
        "api_token": "secret-1", "secret": ["secret-2"], "x": "secret-1, secret-2",
    }  # fmt: skip


def test_the_vocabulary_has_the_words_of_the_schema() -> None:
    assert {"ok", "compute", "settled", "measurements", "copy-engine"} <= vocabulary()
