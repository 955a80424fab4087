"""The words of redaction: ours, which stay, and those that this process knows of its owner.

Ours are the names of fields and their values, and the ids and words of the cases that a record
holds: a rule that takes one of them for a name would break the record.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from roofprobe.acceptance.bundle.redaction_forms import FORMS, is_private
from roofprobe.records import schema

COMMON_USERS: Final = frozenset({"root", "user", "ubuntu", "admin", "ec2-user", "nobody", "home"})
_OWN_WORDS: Final = frozenset(
    {"cpu", "cuda", "gpu", "host", "localhost", "numpy", "probe", "rocm", "roofprobe", "torch",
     "triton", "nccl", "gloo", "nvidia", "amd", "intel", "linux", "python", "none", "latest",
     "run", "op-table", "published-fit", "assumed", "tflops", "tops", "gb/s", "header"}
)  # fmt: skip
# Fields of a case whose words are ours, whatever a host is called.
_CASE_FIELDS: Final = frozenset({"case_id", "family", "op", "precision", "route"})
_TELLING: Final = tuple(
    (word, re.compile(form, re.IGNORECASE))
    for word, form in FORMS
    if word in ("secret", "url", "user", "mac", "ip", "container")
)


def known_here() -> dict[str, str]:
    """Return what this process knows of its host and user, and the word of each."""
    found: dict[str, str] = {}
    with suppress(OSError):
        name = socket.gethostname()
        found |= {name: "host", name.split(".")[0]: "host"}
    for path in (Path.home, Path.cwd, lambda: Path(tempfile.gettempdir())):
        with suppress(OSError, RuntimeError):
            found[str(path())] = "path"
    found |= {prefix: "path" for prefix in (sys.prefix, sys.base_prefix)}
    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER")}
    with suppress(OSError, KeyError):
        users.add(getpass.getuser())
    found |= {user: "user" for user in users if user and user.casefold() not in COMMON_USERS}
    # short prefixes (/usr, /tmp) would cut words of others; their paths are found by their form
    return {value: word for value, word in found.items() if word != "path" or value.count("/") > 1}


@cache
def vocabulary() -> frozenset[str]:
    """Return words that the record itself uses, in lower case; a host of that name hides in them.

    Such a name is replaced where it stands in a field for hosts, and nowhere else.
    """
    words = set(_OWN_WORDS)
    for record in vars(schema).values():
        if isinstance(record, type) and issubclass(record, schema.Record):
            words |= set(record.model_fields)
            for field in record.model_fields.values():
                words |= _literals(field.annotation)
    return frozenset(word.casefold() for word in words)


def _literals(annotation: Any) -> set[str]:
    if get_origin(annotation) is Literal:
        return {word for word in get_args(annotation) if isinstance(word, str)}
    return {word for inner in get_args(annotation) for word in _literals(inner)}


def names_someone(text: str) -> bool:
    """Whether the id of a case holds an address, a login or a token: then it is none of ours."""
    return any(
        is_private(word, found[0]) for word, form in _TELLING for found in form.finditer(text)
    )


def case_words(value: Any) -> Iterable[str]:
    """Yield the ids and words of cases in a document, and the ids that a run has planned."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str) and (key in _CASE_FIELDS or key.endswith("_case_id")):
                yield inner
            elif key == "planned" and isinstance(inner, Mapping):
                for ids in inner.values():
                    yield from (case for case in ids if isinstance(case, str))
            else:
                yield from case_words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from case_words(inner)
