"""Taking what identifies a customer out of a record, and leaving what identifies a device.

A provider needs the figures, the UUIDs and PCI addresses of GPUs, versions and times. It does not
need the names of hosts and users, addresses, paths, serial numbers or tokens, so these become
placeholders: the same value is the same placeholder in every file (``host-1``, ``path-2``), so that
the evidence still hangs together.

Values are found in two ways. What the record itself says to be one (the host, arguments of the
command) and what this process knows (its user, its folders) is known, and is found wherever it
stands as a word. Everything else is found by its form (`redaction_forms`). Where a form is
ambiguous it is taken out: a lost word harms a report less than a leaked one harms its sender.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from roofprobe.acceptance.bundle.redaction_forms import (
    ASSIGNMENT,
    CASE_ID,
    CONTAINER,
    DOMAIN,
    FORMS,
    HOME,
    LOGIN,
    SECRET_NAME,
    SERIAL_NAME,
    VERSION,
    is_private,
    remainder,
)
from roofprobe.acceptance.bundle.redaction_words import (
    COMMON_USERS,
    case_words,
    names_someone,
    vocabulary,
)
from roofprobe.records.errors import RoofprobeError

# What is taken out, by the words of ``--keep``; secrets are never kept.
KINDS: Final[Mapping[str, str]] = {
    "host": "names of hosts, users and containers, web addresses",
    "serials": "serial numbers, machine ids",
    "paths": "paths of files and folders",
    "ips": "IP and MAC addresses",
    "secrets": "tokens, passwords, keys",
}
KEEPABLE: Final = ("host", "serials", "paths", "ips")
# The word of a placeholder, and its kind.
WORDS: Final[Mapping[str, str]] = {
    "host": "host", "domain": "host", "user": "host", "container": "host", "url": "host",
    "serial": "serials", "path": "paths", "ip": "ips", "mac": "ips", "secret": "secrets",
}  # fmt: skip
_PLACEHOLDER: Final = re.compile(rf"(?:{'|'.join(WORDS)})-\d+")
# Options whose value is a path, however it is written.
_PATH_OPTIONS: Final = frozenset({"--out", "--calibration", "--cases"})
# Fields that hold versions: four numbers with dots are no address there.
_VERSION_FIELDS: Final = frozenset(
    {"libraries", "driver", "runtime", "torch", "triton", "python", "kernel", "roofprobe", "os"}
)
# Known values from this length on are found inside of words too; shorter ones only as words.
_DISTINCT: Final = 8
_LEAST: Final = 2
_HOST: Final = ("environment", "host")
_REMEMBERED: Final = 512  # characters of a text whose outcome is kept
_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_CASE_WORD: Final = re.compile(r"[A-Za-z][\w.+-]*")
# Each id of a case stands aside as one character that no text has (a private use plane).
_ASIDE: Final = range(0xF0000, 0xFFFFE)
_STANDS_ASIDE: Final = re.compile(f"[{chr(_ASIDE.start)}-{chr(_ASIDE.stop)}]")


class Redactor:
    """Replaces values by placeholders, the same ones in all that it is given.

    ``keep`` names kinds (`KEEPABLE`) to leave alone. Raises ``RoofprobeError`` (``unknown-kind``).
    """

    def __init__(self, keep: Iterable[str] = (), known: Mapping[str, str] | None = None) -> None:
        """Start with ``known`` values and the words of their placeholders."""
        self.keep = frozenset(keep)
        wrong = sorted(self.keep - set(KEEPABLE))
        if wrong:
            raise RoofprobeError(
                "unknown-kind",
                f"nothing called {wrong[0]!r} can be kept; choose from {', '.join(KEEPABLE)}",
            )
        self._known: dict[str, tuple[str, str]] = {}  # value → word, the value that it stands for
        self._given: dict[tuple[str, str], str] = {}
        self._numbers: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._reserved: set[str] = set()
        self._expression: re.Pattern[str] | None = None
        self._known_expression = self._host_expression = re.compile(r"(?!)")
        self._seen: dict[str, tuple[str, Counter[str]]] = {}
        self._own_words: set[str] = set()
        self._case_ids: dict[str, str] = {}  # id → the character that stands for it
        self._stood_aside: dict[str, str] = {}
        for value, word in (known or {}).items():
            if word == "host":
                self._learn_host(value)
            else:
                self.know(value, word)

    def know(self, value: str, word: str, same_as: str | None = None) -> None:
        """Let ``value`` be found wherever it stands as a word; ``same_as`` is its full form."""
        value = value.strip()
        key = value.casefold()
        own = key in vocabulary() or key in self._own_words
        if len(value) >= _LEAST and not own and key not in self._known:
            self._known[key] = (word, (same_as or value).casefold())
            self._expression = None
            self._seen.clear()

    def learn(self, document: Any) -> None:
        """Take known values from a document: hosts, users, serial numbers, the command's paths.

        The ids and words of its cases are ours, and stay.
        """
        for text in case_words(document):
            self._learn_own(text)
        for fields, text in _texts(document):
            self._learn_text(text)
            name = fields[-1] if fields else ""
            if fields[-2:] == _HOST:
                self._learn_host(text)
            elif SERIAL_NAME.search(name):
                self.know(text, "serial")
            elif SECRET_NAME.search(name):
                self.know(text, "secret")
            elif name == "container":
                for value in CONTAINER.findall(text):
                    self.know(value, "container")
        for command in _commands(document):
            for value in _paths_of(command):
                self.know(value, "path")

    def learn_text(self, text: str) -> None:
        """Take known values from a log: users whose folders it names, numbers in use."""
        self._learn_text(text)

    def text(self, text: str) -> str:
        """Return ``text`` with placeholders."""
        if text in self._seen:  # records say the same again and again
            done, found = self._seen[text]
            self._found.update(found)
            return done
        before = self._found.copy()
        aside = text
        if self._case_ids and not _STANDS_ASIDE.search(text):
            aside = CASE_ID.sub(self._aside, text)
        done = self._all().sub(self._placed, ASSIGNMENT.sub(self._assigned, aside))
        if aside != text:
            done = _STANDS_ASIDE.sub(lambda match: self._stood_aside[match[0]], done)
        if len(text) < _REMEMBERED:
            self._seen[text] = (done, self._found - before)
        return done

    def document(self, value: Any, fields: tuple[str, ...] = ()) -> Any:
        """Return a JSON value with placeholders in its texts, the names of its fields included."""
        if isinstance(value, str):
            return self._field(value, fields)
        if isinstance(value, Mapping):
            return {
                self._key(key): self.document(inner, (*fields, key)) for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.document(inner, fields) for inner in value]
        return value

    def counts(self) -> dict[str, dict[str, int]]:
        """Return per kind how many values were taken out, and how often."""
        values = Counter(WORDS[word] for word, _ in self._given)
        return {
            kind: {"values": values[kind], "occurrences": self._found[kind]}
            for kind in KINDS
            if values[kind]
        }

    def _key(self, key: str) -> str:
        """Return a key with placeholders; names of fields stay, whatever the host is called."""
        if key in vocabulary():
            return key
        if _FIELD_NAME.fullmatch(key) and not any(
            len(value) >= _DISTINCT and value in key for value in self._known
        ):
            return key
        return self.text(key)

    def _field(self, text: str, fields: tuple[str, ...]) -> str:
        name = fields[-1] if fields else ""
        version = any(field in _VERSION_FIELDS for field in fields[-2:]) and VERSION.fullmatch(text)
        if version and text.casefold() not in self._known:
            return text
        if fields[-2:] == _HOST and text.strip():
            return self._placeholder("host", text.strip())
        told = fields[-2:-1] == ("variables",) or text.casefold() not in vocabulary()
        if SECRET_NAME.search(name) and text and told:
            return self._placeholder("secret", text)
        return self.text(text)

    def _learn_text(self, text: str) -> None:
        self._reserved.update(_PLACEHOLDER.findall(text.casefold()))
        for user in HOME.findall(text):
            if user.casefold() not in COMMON_USERS:
                self.know(user, "user")

    def _learn_own(self, text: str) -> None:
        if _CASE_WORD.fullmatch(text):
            self._own_words.add(text.casefold())
            if self._known.pop(text.casefold(), None):
                self._expression = None
        elif CASE_ID.fullmatch(text) and text not in self._case_ids and not names_someone(text):
            if len(self._case_ids) < len(_ASIDE):
                stand_in = chr(_ASIDE[len(self._case_ids)])
                self._case_ids[text] = stand_in
                self._stood_aside[stand_in] = text
        else:
            return
        self._seen.clear()

    def _aside(self, match: re.Match[str]) -> str:
        text = match[0].rstrip(".")  # the end of a sentence is no part of an id
        return self._case_ids.get(text, text) + match[0][len(text) :]

    def _learn_host(self, host: str) -> None:
        host = host.strip()
        # as the run's folder spells it, without its domain, and as names of variables have it
        spelled = re.sub(r"[^A-Za-z0-9.-]+", "-", host).strip("-.")
        for name in (host, spelled, host.split(".")[0]):
            self.know(name, "host", same_as=host)
            self.know(name.replace("-", "_"), "host", same_as=host)
        domain = host.partition(".")[2]
        if "." in domain and not host.replace(".", "").isdigit():
            self.know(domain, "domain")

    def _all(self) -> re.Pattern[str]:
        """Return one expression for known values, the longest first, and forms."""
        if self._expression is None:
            known = sorted(self._known, key=lambda value: (-len(value), value))
            either = "|".join(self._as_known(value) for value in known) or r"(?!)"
            self._known_expression = re.compile(either, re.IGNORECASE)
            hosts = (self._as_known(value) for value in known if self._known[value][0] == "host")
            self._host_expression = re.compile("|".join(hosts) or r"(?!)", re.IGNORECASE)
            # a mail address is one, whoever of it is known
            parts = [f"(?P<user_mail>{LOGIN})", f"(?P<known>{either})"]
            parts += [
                f"(?P<{word or 'stays'}_{number}>{expression})"
                for number, (word, expression) in enumerate(FORMS)
            ]
            self._expression = re.compile("|".join(parts), re.IGNORECASE)
        return self._expression

    def _as_known(self, value: str) -> str:
        word = self._known[value][0]
        if word == "domain":
            return rf"(?:(?<![\w.-])(?:[\w-]+\.)+)?(?<![\w-]){re.escape(value)}(?![\w-])"
        return _as_word(value) + (DOMAIN if word == "host" else "")

    def _known_as(self, found: str) -> tuple[str, str]:
        """Return the word and the full form of what was found, a host with any domain included."""
        name = found
        while name not in self._known:
            name, dot, _ = name.rpartition(".")
            if not dot:  # another host of a known domain
                return "host", found
        word, value = self._known[name]
        return ("host", found) if word == "domain" else (word, value)

    def _placed(self, match: re.Match[str]) -> str:
        text, group = match[0], match.lastgroup or ""
        if group == "known":
            return self._known_placed(match)
        word = group.rpartition("_")[0]
        if word == "stays" or not is_private(word, text):
            return text
        if word == "host" and self._known_expression.search(text):
            return self._known_expression.sub(self._known_placed, text)
        stripped = text.rstrip(".,;!?") if word in ("path", "url", "user") else text
        rest = remainder(word, stripped)  # what a package calls its own files says nothing
        value = stripped[: len(stripped) - len(rest)]
        return f"{self._placeholder(word, value)}{rest}{text[len(stripped) :]}"

    def _known_placed(self, match: re.Match[str]) -> str:
        found = match[0].casefold()
        word, value = self._known_as(found)
        inner = self._host_expression.search(match[0])
        if value == found not in self._known and inner and inner[0] != match[0]:
            # a name that ends with a known host, as that of a run's folder does
            return self._host_expression.sub(self._known_placed, match[0])
        return match[0] if WORDS[word] in self.keep else self._placeholder(word, value)

    def _assigned(self, match: re.Match[str]) -> str:
        name, sign, value = match.groups()
        bare = value.strip("\"'")
        word = "secret" if SECRET_NAME.search(name) else "serial"
        if not (SECRET_NAME.search(name) or SERIAL_NAME.search(name)) or bare in ("True", "False"):
            return match[0]
        if WORDS[word] in self.keep or _PLACEHOLDER.fullmatch(bare):
            return match[0]
        return f"{name}{sign}{self._placeholder(word, bare)}"

    def _placeholder(self, word: str, value: str) -> str:
        kind = WORDS[word]
        if kind in self.keep:
            return value
        key = (word, value.casefold() if word != "path" else value.rstrip("/"))
        self._found[kind] += 1
        if key not in self._given:
            while True:
                self._numbers[word] += 1
                name = f"{word}-{self._numbers[word]}"
                if name not in self._reserved:
                    break
            self._given[key] = name
        return self._given[key]


def _as_word(value: str) -> str:
    """Return an expression for ``value``; a short one must not be a part of a longer word."""
    escaped = re.escape(value)
    if len(value) >= _DISTINCT:
        return escaped
    before = _neighbour(value[0])
    after = _neighbour(value[-1])
    return f"{f'(?<!{before})' if before else ''}{escaped}{f'(?!{after})' if after else ''}"


def _neighbour(character: str) -> str:
    if character.isdigit():
        return r"\d"
    return r"[^\W\d_]" if character.isalpha() else ""


def _texts(value: Any, fields: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], str]]:
    """Yield the texts of a document and the fields they stand in; a key stands in none."""
    if isinstance(value, str):
        yield fields, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield (), key
            yield from _texts(inner, (*fields, key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, fields)


def _commands(document: Any) -> Iterable[list[str]]:
    found = document.get("command") if isinstance(document, Mapping) else None
    if isinstance(found, list | tuple):
        yield [word for word in found if isinstance(word, str)]


def _paths_of(command: list[str]) -> Iterable[str]:
    """Yield the paths among a command's words: values of options for paths, words with a slash."""
    for before, word in zip(["", *command], command, strict=False):
        option, sign, value = word.partition("=")
        if before in _PATH_OPTIONS or (sign and option in _PATH_OPTIONS):
            yield value if sign and option in _PATH_OPTIONS else word
        elif "/" in word:
            yield value if sign and option.startswith("--") else word
