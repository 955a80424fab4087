"""The forms by which values are recognised that nobody named: addresses, paths, serials, tokens.

What identifies a GPU is recognised first and stays: UUIDs that begin with ``GPU-`` or ``MIG-``, and
PCI addresses. An address of four numbers is only one where each is at most 255; the loopback and
unspecified addresses say nothing about anyone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_HEX_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_STOP: Final = r"\s\"'`<>|;,()\[\]{}"
_IN_PATH: Final = rf"(?:[^{_STOP}:]|:(?=[a-z_]))"
# /data/x y/z: a word with slashes after a blank goes on with the path; and/or and GB/s do not.
_AFTER_BLANK: Final = rf"(?: (?!and/or\b|[\w.%]+/s\b)[\w.-]+/[^{_STOP}:]*)*"
LOGIN: Final = r"(?<![\w.+-])[\w.+-]+@[a-z0-9][\w.-]*"
# What may follow the name of a host: its domain, but not what a file is named after it.
DOMAIN: Final = (
    r"(?:(?!\.(?:json|jsonl|log|txt|zip|tar|gz|csv|md|html|xml|prom)(?![\w.-]))"
    r"\.[a-z0-9](?:[\w-]*\w)?)*"
)

# (word of the placeholder, or None for what stays; expression), matched without regard to case.
# Of forms that begin at one place the first counts.
FORMS: Final[tuple[tuple[str | None, str], ...]] = (
    (None, rf"(?<!\w)(?:MIG-GPU|GPU|MIG)-{_HEX_UUID}(?:/\d+){{0,2}}(?!\w)"),
    ("secret", r"-----BEGIN [A-Z ]+-----[\s\S]*?(?:-----END [A-Z ]+-----|\Z)"),
    ("secret", r"(?<![a-z0-9])(?:hf_|gh[pousr]_|github_pat_|sk-|xox[abp]-|glpat-)[\w-]{16,}"),
    ("secret", r"(?<![a-z0-9])AKIA[0-9A-Z]{16}(?![0-9A-Z])"),
    ("secret", r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"),
    ("secret", r"(?:(?<=bearer )|(?<=basic ))[\w.~+/=-]{8,}"),
    ("url", rf"(?<!\w)(?:https?|wss?|ftp|s3|gs|tcp|udp|ssh|git|rediss?|grpc)://[^{_STOP}]+"),
    ("user", LOGIN),
    (None, r"(?<![\w:])(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?![\w:])"),
    ("mac", r"(?<![\w:-])[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?![\w:-])"),
    ("mac", r"(?<![\w:-])[0-9a-f]{2}(?:-[0-9a-f]{2}){5}(?![\w:-])"),
    ("ip", r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"),
    ("ip", r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4})"
           r"(?:%\w+)?(?![\w:])"),
    ("host", r"(?<![\w.-])ip-\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}(?:\.[a-z0-9-]+)*"),
    ("host", r"(?<![\w.-])(?:[a-z0-9_-]+\.)+(?:internal|local|localdomain|lan|corp|intra|home|"
             r"private|cluster|svc)(?:\.[a-z0-9-]+)*(?![\w-])"),
    ("serial", r"(?:(?<=serial )|(?<=serial: )|(?<=serial=)|(?<=serial number )|"
               r"(?<=serial number: )|(?<=s/n )|(?<=s/n: ))(?=[a-z-]*\d)[a-z0-9][a-z0-9-]{3,}"),
    ("serial", r"(?<![\w./-])\d{13}(?![\w.-]|\s*bytes)"),
    ("serial", rf"(?<!\w){_HEX_UUID}(?!\w)"),
    ("container", r"(?<!\w)(?:[0-9a-f]{64}|[0-9a-f]{32})(?!\w)"),
    # ids that clouds give to instances, disks, networks and projects
    ("host", r"(?<![\w-])(?:i|vol|eni|vpc|subnet|sg|snap)-(?:[0-9a-f]{17}|[0-9a-f]{8})(?![\w-])"),
    ("host", rf"(?<![\w.-])(?:arn:aws[\w-]*:|ocid1\.)[^{_STOP}]+"),
    ("host", rf"(?<![\w./-])projects/(?=[a-z0-9])[^{_STOP}/]+(?:/[^{_STOP}/]+)*"),
    # in quotation marks a path may hold blanks
    ("path", r"(?<=(?<!\w)')(?:\.\.)?/[^'\"\n/ ][^'\"\n]{0,400}(?=')"),
    ("path", r"(?<=(?<!\w)\")(?:\.\.)?/[^'\"\n/ ][^'\"\n]{0,400}(?=\")"),
    # a path is absolute, or begins with ~; a name with slashes may be the name of a case
    ("path", rf"(?<![\w.~-])(?:file:/*)?/+(?=[^{_STOP}:/]){_IN_PATH}+{_AFTER_BLANK}"),
    ("path", rf"(?<![\w./-])(?:\.\./)+{_IN_PATH}*{_AFTER_BLANK}"),
    ("path", rf"(?<![\w./-])~[\w-]*/{_IN_PATH}*"),
    ("path", rf"/(?:home|users|root)/{_IN_PATH}+"),
    # -I/usr/include, where the option is a word of its own (top-p/1x8192 is none)
    ("path", rf"(?:(?<=^-[a-z])|(?<=[\s\"'=,(\[]-[a-z]))/(?=[^{_STOP}:/]){_IN_PATH}+"),
    ("path", rf"(?<!\w)[a-z]:\\[^{_STOP}]+"),
    ("path", rf"(?<![\w\\])\\{{2,4}}[\w.$-]+\\{{1,2}}[^{_STOP}]+"),  # \\server\share
)  # fmt: skip
HOME: Final = re.compile(rf"/(?:home|Users)/([^/{_STOP}:=\\]+)")
CONTAINER: Final = re.compile(r"(?<![\w-])[0-9a-f]{12,64}(?!\w)")  # where one is expected
SECRET_NAME: Final = re.compile(
    r"(?i)(token(?![a-z])|secret|passw|passphrase|credential|api_?key|access_?key|private_?key|cookie)"
)
SERIAL_NAME: Final = re.compile(r"(?i)(^|_)(serial|asset_?tag|machine_?id)")
ASSIGNMENT: Final = re.compile(r"\b([A-Za-z_]\w{2,80})(=|:\s?)(\"[^\"]+\"|'[^']+'|[^\s\"',;]+)")
VERSION: Final = re.compile(r"v?\d+(\.\d+){0,5}([-+.~][0-9A-Za-z]{1,20}){0,5}")
# What the id of a case looks like: words with slashes between them, never one in front.
CASE_ID: Final = re.compile(r"(?<![\w.~/\\@-])[A-Za-z][\w.+=-]*(?:/[\w.+=-]+)+")
_PACKAGES: Final = re.compile(r"/(?:site|dist)-packages(?=/|$)")


def is_private(word: str, text: str) -> bool:
    """Whether what has the form of a ``word`` is one, and says something about its owner."""
    check = _CHECKS.get(word)
    return check is None or check(text)


def remainder(word: str, text: str) -> str:
    """Return the end of a match that may stay: what follows the folder of installed packages."""
    found = _PACKAGES.search(text) if word == "path" else None
    return text[found.end() :] if found else ""


def _is_address(text: str) -> bool:
    bare = text.partition("%")[0]
    try:
        address = IPv6Address(bare) if ":" in bare else IPv4Address(bare)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {"ip": _is_address}
