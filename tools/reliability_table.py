"""Write the table of planted faults into docs/reliability.md.

The rows are those that the tests go through (tests/support/faults.py), so a fault without a test
has no row, and a row that is wrong fails a test. Run as ``python tools/reliability_table.py``; with
``--print`` the table is only printed.
"""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- planted faults -->\n\n", "\n\n<!-- end of planted faults -->"


def fault_table() -> str:
    """Return the Markdown table."""
    spec = util.spec_from_file_location("faults", ROOT / "tests/support/faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["faults"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return str(module.table())


def with_table(text: str, table: str) -> str:
    """Return a document with the table between its marks; raises ``ValueError`` without them."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{DOCUMENT.name} has no marks for the table")
    return f"{before}{BEGIN}{table}{END}{after}"


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(fault_table())
    else:
        DOCUMENT.write_text(with_table(DOCUMENT.read_text(), fault_table()))
