"""The command that goes on with a run names the folder that the run was begun in."""

from __future__ import annotations

import pytest

from roofprobe.acceptance.verdict.complete import complete
from roofprobe.acceptance.verdict.resuming import resume_command
from roofprobe.records.schema import Run


def cut_short(*command: str) -> Run:
    return Run.model_validate(
        {
            "run_id": "r", "status": "incomplete", "started_at": "2000-01-01T00:00:00+00:00",
            "command": command, "options": {"families": ["compute"]},
            "environment": {"host": "h", "os": "Linux", "kernel": "6", "python": "3.11",
                            "roofprobe": "0.1"},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "resumed"),
    [
        (("probe", "all"), "probe all --out reports --resume"),
        (("probe", "all", "--out", "a b"), "probe all --out 'a b' --resume"),
        (("probe", "llm", "--out=x/y", "--quiet"), "probe llm --out x/y --resume"),
        (("probe", "all", "--out"), "probe all --out reports --resume"),
        (("probe", "all", "--out", "a`b"), None),
        (("probe", "fleet", "simulate"), None),
        (("rm", "all"), None),
        ((), None),
    ],
)
def test_the_command_is_that_of_the_run(command: tuple[str, ...], resumed: str | None) -> None:
    assert resume_command(cut_short(*command)) == resumed


def test_a_run_that_was_cut_short_says_how_to_go_on() -> None:
    (finding,) = complete(cut_short("probe", "compute", "--out", "/x"))
    assert str(finding.remedy).startswith("go on with `probe compute --out /x --resume`, or")
    (finding,) = complete(cut_short())
    assert str(finding.remedy).startswith("go on with `probe all --resume`, or")
