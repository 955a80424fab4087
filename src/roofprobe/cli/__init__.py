"""The ``probe`` command: arguments and exit codes only; rooms and ``roofprobe.run`` do the work.

Data goes to standard output, progress and messages to standard error. Heavy modules are imported
inside the commands, so that ``probe --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from roofprobe import __version__
from roofprobe.cli import fleet, judging, looking, measuring, planning, remembering

app = typer.Typer(
    name="probe",
    help="Measure what a GPU really reaches, beside its datasheet.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# In the order in which help shows them.
COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "all": measuring.all_,
    "compute": measuring.compute,
    "memory": measuring.memory,
    "interconnect": measuring.interconnect,
    "llm": measuring.llm,
    "doctor": measuring.doctor,
    "show": looking.show,
    "report": looking.report,
    "check": judging.check,
    "compare": judging.compare,
    "bundle": judging.bundle,
    "history": remembering.history,
    "peaks": looking.peaks,
    "calibrate": planning.calibrate,
    "plan": planning.plan,
    "validate": measuring.validate,
    "export": planning.export,
    "schema": looking.schema,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(fleet.app, name="fleet")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"roofprobe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure what a GPU really reaches, beside its datasheet."""


def main() -> None:
    """Run the command; usage errors exit with 2."""
    app()
