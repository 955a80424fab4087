"""Records of earlier versions, brought to the present one step by step.

A release that changes the shape of ``run.json`` raises ``SCHEMA_VERSION`` and adds the step from
the version before it, so that a record of any age reads as if it had been written today. Fields
that are only added, with a default, need no step: a record without them reads as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import SCHEMA_VERSION

Step = Callable[[dict[str, Any]], dict[str, Any]]

# From which version a step leads to the next. There is one version so far, so there is none.
STEPS: Final[Mapping[int, Step]] = {}


def upgraded(
    path: Path,
    document: dict[str, Any],
    *,
    steps: Mapping[int, Step] = STEPS,
    present: int = SCHEMA_VERSION,
) -> dict[str, Any]:
    """Return a record as the present version has it; ``document`` itself is not changed.

    Its version must be a whole number that is not above ``present``, see `check_version`. Raises
    ``RoofprobeError`` (``damaged-run``) for a version that no release wrote, or whose fields are
    not those of its version.
    """
    version = document["schema_version"]
    while version < present:
        if version not in steps:
            raise RoofprobeError(
                "damaged-run",
                f"{path} has schema version {version}, which no roofprobe wrote; restore it",
            )
        try:
            document = steps[version](dict(document))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RoofprobeError(
                "damaged-run",
                f"{path} is not what schema version {version} was ({error}); restore it",
            ) from error
        version += 1
        document = {**document, "schema_version": version}
    return document
