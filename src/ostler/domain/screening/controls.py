"""Takes the power from characters that act on whoever shows a text, and makes them visible.

Colours (SGR sequences of ECMA-48) are dropped. Any other control character becomes its picture (`␛` for escape), so
that no sequence can move a cursor, set a title or hide a line. What turns the order of a line around (embeddings,
overrides and isolates of UAX 9), tags and variation selectors that carry unseen text, 8-bit controls and halves of
characters become one `�`. Every line break is `\\n`, so that nothing else can begin a line.
"""

import re
from typing import NamedTuple

from ostler.domain.screening.reading import JSON_ESCAPE, unescaped


class Neutralised(NamedTuple):
    """What is left of a text, and how much in it had to be changed. Colours and line breaks are not counted."""

    text: str
    changed: int


_UNSEEN = "\x80-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e01ef"
_C0 = "\x00-\x08\x0b-\x1f\x7f"
_COLOUR = r"\x1b\[[0-9;:]{0,64}m"
_BREAK = "\r\n|[\x0b\x0c\x85\u2028\u2029]"
_ACTING = re.compile(f"{_COLOUR}|{_BREAK}|[{_C0}]|[{_UNSEEN}]+")
_ACTING_ALONE = re.compile(f"[{_C0}{_UNSEEN}\x85\u2028\u2029]")
_ACTING_IN_JSON = re.compile(f"{JSON_ESCAPE.pattern}|[\x7f\x85\u2028\u2029]|[{_UNSEEN}]+")
_JSON_ESCAPES = re.compile(r"\\[ubfr]")
_BREAKS = frozenset(("\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"))


def acting(text: str) -> re.Match[str] | None:
    """The first character or sequence in a text that acts, other than to break a line."""
    return next((match for match in _ACTING.finditer(text) if match[0] not in _BREAKS), None)


def acts(text: str) -> bool:
    """Whether something in a text may have to be changed, also where it is JSON and writes that as an escape.

    Quick, and never wrong when it says no.
    """
    if "\\" in text and _JSON_ESCAPES.search(text) is not None:
        return True
    return not (text.isascii() and text.isprintable()) and _ACTING.search(text) is not None


def neutralise(text: str) -> Neutralised:
    """The text with everything that acts made to be seen. Doing it again changes nothing."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        found = match[0]
        if found in _BREAKS:
            return "\n"
        if found.endswith("m"):
            return ""
        count += 1
        return _seen(found)

    return Neutralised(_ACTING.sub(replace, text), count)


def shown(text: str) -> str:
    """The text with everything that acts made to be seen, character for character: it stays as long as it is."""
    if text.isascii() and text.isprintable():
        return text
    return _ACTING_ALONE.sub(lambda match: "\n" if match[0] in _BREAKS else _seen(match[0]), text)


def neutralise_json(text: str) -> Neutralised:
    """The same for JSON text, whether its strings hold such characters as they are or as escapes."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        found = match[0]
        said = unescaped(found) if found[0] == "\\" else found
        if not _ACTING.fullmatch(said):
            return found
        if said == "\r" and text.startswith("\\n", match.end()):
            return ""
        if said in _BREAKS:
            return "\\n"
        count += 1
        return _seen(said)

    return Neutralised(_ACTING_IN_JSON.sub(replace, text), count)


def _seen(acting: str) -> str:
    if acting == "\x7f":
        return "\u2421"
    return chr(0x2400 + ord(acting)) if acting < " " else "\ufffd"
