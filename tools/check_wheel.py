"""Hold a built wheel against the tree: every module and data file of the package is in it.

    python tools/check_wheel.py dist/roofprobe-*.whl

Ends with 1 and a line per missing or unexpected file.
"""

from __future__ import annotations

import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent


def expected() -> set[str]:
    """Return where each file of the package and of its rooms has to lie in the wheel."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    places = {"src/roofprobe": "roofprobe", **rooms}
    return {
        str(PurePosixPath(target, file.relative_to(ROOT / source)))
        for source, target in places.items()
        for file in (ROOT / source).rglob("*")  # does not follow the links to the rooms
        if file.is_file() and file.suffix != ".pyc"
    }


def main() -> int:
    """Compare the wheel that is named with the tree."""
    (wheel,) = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if name.startswith("roofprobe/")}
    wanted = expected()
    for name in sorted(wanted - found):
        print(f"missing: {name}")
    for name in sorted(found - wanted):
        print(f"not of the tree: {name}")
    return int(found != wanted)


if __name__ == "__main__":
    sys.exit(main())
