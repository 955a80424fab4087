"""Write the reference of the ``probe`` command from the command itself.

    python tools/command_reference.py > docs/reference/commands.md

Names, arguments, options, defaults and texts are those that ``probe NAME --help`` prints.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import typer
from typer.models import ArgumentInfo

from roofprobe import cli

HEAD: Final = """\
# The `probe` command

Written by `tools/command_reference.py` from the command itself. Data goes to standard output,
progress and messages to standard error; `--json` prints one JSON document, errors included. Exit
codes: 0 done or passed, 1 failed, 2 usage or configuration, 3 unknown or incomplete.
"""
_VALUES: Final = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def lines() -> Iterator[str]:
    """Yield the document's lines."""
    yield from HEAD.splitlines()
    yield from _commands("probe", cli.app)


def _commands(prefix: str, app: typer.Typer) -> Iterator[str]:
    found = {each.name or _named(each.callback): each.callback for each in app.registered_commands}
    for name, callback in sorted(found.items()):
        assert callback is not None
        yield from _command(f"{prefix} {name}", callback)
    for group in sorted(app.registered_groups, key=lambda each: str(each.name)):
        assert group.typer_instance is not None
        yield from _commands(f"{prefix} {group.name}", group.typer_instance)


def _named(callback: Callable[..., Any] | None) -> str:
    return str(getattr(callback, "__name__", "")).replace("_", "-")


def _command(title: str, callback: Callable[..., Any]) -> Iterator[str]:
    hints = typing.get_type_hints(callback, include_extras=True)
    parameters = [
        (name, parameter.default, hints[name].__origin__, hints[name].__metadata__[0])
        for name, parameter in inspect.signature(callback).parameters.items()
    ]
    yield from ("", f"## {title}", "", inspect.getdoc(callback) or "", "")
    yield from ("| | without it | |", "|---|---|---|")
    for name, default, kind, info in parameters:
        yield f"| `{_cell(_shown(name, kind, info))}` | {_default(default)} | {_cell(info.help)} |"


def _shown(name: str, kind: Any, info: Any) -> str:
    if isinstance(info, ArgumentInfo):
        return str(info.metavar or name.upper())
    # Within Annotated, typer keeps the first name where the default would be.
    declared = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
    names = ", ".join(declared or (f"--{name.replace('_', '-')}",))
    kinds = [one for one in typing.get_args(kind) or (kind,) if one is not type(None)]
    return names if bool in kinds else f"{names} {info.metavar or _VALUES.get(kinds[0], 'TEXT')}"


def _default(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "needed"
    return "" if default in (None, False) else f"`{_cell(str(default))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
