"""What the user asked for: words of the command checked and turned into a run's options."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Options


def options_from(
    families: Sequence[str],
    device: str,
    tier: str,
    precision: str | None,
    time_budget: str | None,
    seed: int,
    *,
    search: str = "halving",
    sweep: str | None = None,
    compile_routes: bool = False,
) -> Options:
    """Return checked options; raises ``RoofprobeError`` naming what is allowed."""
    from roofprobe.kernels.rows import UnknownRowError, select

    words = tuple(word.lower() for word in _words(precision))
    if precision is not None and not any(words):
        raise RoofprobeError(
            "unknown-precision", "--precision needs a name, such as bf16; leave it out for all"
        )
    try:
        select(words)
    except UnknownRowError as error:
        raise RoofprobeError("unknown-precision", str(error.args[0])) from error
    return Options.model_validate(
        {
            "families": tuple(families),
            "devices": device,
            "tier": _one_of("tier", tier, ("quick", "standard", "soak")),
            "precisions": words,
            "search": _one_of("search", search, ("halving", "exhaustive", "none")),
            "sweeps": tuple(
                _one_of("sweep", word, ("layouts", "alignment")) for word in _words(sweep)
            ),
            "compile_routes": compile_routes,
            "time_budget_s": parse_duration_s(time_budget) if time_budget else None,
            "seed": seed,
        }
    )


def ignored(asked: Options, kept: Options) -> str | None:
    """Say which options of a resumed run are not those asked for now; None where all agree."""
    differing = [
        f"{name} {_told(getattr(kept, name))}, not {_told(getattr(asked, name))}"
        for name in Options.model_fields
        if name != "time_budget_s"
        and getattr(asked, name) not in (getattr(kept, name), Options.model_fields[name].default)
    ]
    if not differing:
        return None
    return f"--resume goes on with the options of the run: {'; '.join(differing)}"


def parse_duration_s(text: str, option: str = "--time-budget") -> float:
    """Return the seconds of ``90``, ``90s``, ``5m`` or ``1.5h``; raises ``RoofprobeError``."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, factor = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        seconds = float(number) * factor
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e7:
        raise RoofprobeError(
            "bad-time-budget",
            f"{option} {text!r} is not a duration; write 90s, 5m or 1h",
        )
    return seconds


def command_line() -> tuple[str, ...]:
    """Return the command as it was typed, for the record."""
    return ("probe", *sys.argv[1:])


def _words(text: str | None) -> tuple[str, ...]:
    """Return the words of a comma-separated list, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(","))) if text else ()


def _one_of(what: str, word: str, known: Sequence[str]) -> str:
    if word not in known:
        raise RoofprobeError(
            f"unknown-{what}", f"there is no {what} {word!r}; choose one of {', '.join(known)}"
        )
    return word


def _told(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
