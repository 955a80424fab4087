"""Valid documents with every field filled, and mutations that no document should have.

``fill`` makes a JSON value of a model's type. ``mutated`` changes one as chance has it: fields
left out, of another type, of absurd size, twice; text cut, bytes flipped, tokens put in.
"""

from __future__ import annotations

import copy
import json
import random
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

# What a field may suddenly hold.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**18), 0.5, -0.0, 1e-300, 1e308, "", " ",
    "x" * 3000, "\x00", "\u202e\x1b[31m", "<script>", "nan", "1e5", [], {}, [[]], [{}], {"": ""},
    [None], ["a", 1], {"kind": "header"}, "../../../etc/passwd", "１２", "\ufeff",
)  # fmt: skip
# What may stand somewhere in a file.
TOKENS: tuple[bytes, ...] = (
    b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 2000, b"\xff", b"\x00",
    b"\xef\xbb\xbf", b'"\\ud800"', b'"a":1,"a":2,', b",", b":", b'"', b"}", b"]", b"\n", b"\r\n",
    b"\xed\xa0\x80", b"null", b"-", b"1e", b"\\", b"\t", b"0x10", b"'", b"#", b"=cmd()", b"\x1a",
)  # fmt: skip


def fill(annotation: Any, text: Callable[[], str], number: Callable[[], int] = lambda: 1) -> Any:
    """Return a JSON value of a type, with ``text()`` in every free text of it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return fill(next(a for a in arguments if a is not type(None)), text, number)
    if origin is tuple:
        return [fill(a, text, number) for a in arguments if a is not Ellipsis]
    if origin is dict:
        return {"example": fill(arguments[1], text, number)}
    if origin is not None:  # Annotated
        return fill(arguments[0], text, number)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        hints = get_type_hints(annotation, include_extras=True)  # a class may come after its use
        return {key: fill(hints[key], text, number) for key in annotation.model_fields}
    plain: dict[Any, Callable[[], Any]] = {
        str: text, int: number, float: lambda: float(number()), bool: lambda: True,
    }  # fmt: skip
    return plain[annotation]()


def mutated(document: Any, seed: int) -> bytes:
    """Return ``document`` as JSON, changed in one to three places."""
    chance = random.Random(seed)
    changed = copy.deepcopy(document)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        _change(changed, chance)
    data = json.dumps(changed, ensure_ascii=chance.random() < 0.5).encode()
    return data if chance.random() < 0.6 else broken(data, chance)


def broken(data: bytes, chance: random.Random) -> bytes:
    """Return ``data`` cut, flipped, with something put in, or in another encoding."""
    at = chance.randrange(len(data) + 1)
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: data[:at],
        lambda: data[at:],
        lambda: data[:at] + chance.choice(TOKENS) + data[at:],
        lambda: data[:at] + chance.choice(TOKENS) + data[at + chance.randrange(20) :],
        lambda: data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
        lambda: data[:at] + data[at + chance.randrange(1, 30) :],
        lambda: data[:at] + data[max(0, at - 40) :],
        lambda: data.decode(errors="replace").encode(chance.choice(("utf-16", "utf-32", "utf-7"))),
    )
    return chance.choice(ways)()


def _change(document: Any, chance: random.Random) -> None:
    """Change one place of a document, deep places as often as high ones."""
    places = _places(document)
    if not places:
        return
    container, key = chance.choice(places)
    way = chance.randrange(6)
    if way == 0:
        del container[key]
    elif way == 1 and isinstance(container, dict):
        container[chance.choice(("", "x", "kind", "schema_version", str(key) * 2))] = container[key]
    elif way == 2 and isinstance(container, list):
        container += copy.deepcopy(container[key : key + 1]) * chance.choice((1, 3))
    elif way == 3:
        other, at = chance.choice(places)
        container[key] = copy.deepcopy(other[at]) if at in _keys(other) else None
    else:
        container[key] = copy.deepcopy(chance.choice(VALUES))


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        container = left.pop()
        for key in _keys(container):
            found.append((container, key))
            if isinstance(container[key], dict | list):
                left.append(container[key])
    return found


def _keys(container: Any) -> list[Any]:
    return list(container) if isinstance(container, dict) else list(range(len(container)))
