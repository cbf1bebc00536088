"""Other ways to read a text: look-alike characters told apart, escapes decoded, each position traced to its origin."""

import binascii
import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

PERCENT_ROUNDS = 2
"""How often percent-encoded text may have been encoded again."""

JSON_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u])")
_PERCENT = re.compile(r"%[2-7][0-9A-Fa-f]")
_SPACING = r"\u00a0\u2000-\u200a\u2010-\u2015\u202f\u2212"
_NOT_ASCII = re.compile(rf"[^\x00-\x7f{_SPACING}]|(?<=\d)[{_SPACING}](?=\d)")
_BASE64 = re.compile(
    r"""[A-Za-z0-9+/_-](?<![A-Za-z0-9+/_-].)[A-Za-z0-9+/_-]{15,}+
    (?:(?<=[A-Za-z0-9+/]{64})\r?\n[A-Za-z0-9+/]{1,76}+)*+={0,2}""",
    re.VERBOSE,
)
_URL_ALPHABET = str.maketrans("-_", "+/")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


Edit = tuple[int, int, int, int]
"""A part that was replaced: start and end in the new text, start and end in the old one."""


class Reading:
    """A text made from another by replacing parts of it, which knows where each of its characters came from."""

    def __init__(self, text: str, *, of: "Reading | None" = None, edits: Sequence[Edit] = ()) -> None:
        self.text = text
        self._of = of
        self._edits = edits
        self._starts = [edit[0] for edit in self._edits]

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original text that this one was read from; a replaced part counts as a whole."""
        if self._of is None:
            return start, end
        return self._of.origin(self._traced(start, at_end=False), self._traced(end - 1, at_end=True) + 1)

    def _traced(self, position: int, *, at_end: bool) -> int:
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            return position
        _, end_here, start_there, end_there = self._edits[index]
        if position >= end_here:
            return position - end_here + end_there
        return end_there - 1 if at_end else start_there


def reread(before: Reading, pattern: re.Pattern[str], replace: Callable[[str], str]) -> Reading:
    """`before` with every match replaced; `before` itself if that changes nothing."""
    parts: list[str] = []
    edits: list[Edit] = []
    text, done, length = before.text, 0, 0
    for match in pattern.finditer(text):
        old = match[0]
        new = replace(old)
        if new == old:
            continue
        start, end = match.span()
        parts += (text[done:start], new)
        length += start - done
        edits.append((length, length + len(new), start, end))
        length += len(new)
        done = end
    if not edits:
        return before
    return Reading("".join([*parts, text[done:]]), of=before, edits=edits)


def readings(text: Reading) -> Iterator[Reading]:
    """The text, and what it says if look-alikes are taken for what they look like and percent-encoding is undone."""
    yield text
    if not text.text.isascii():
        folded = reread(text, _NOT_ASCII, _folded)
        if folded is not text:
            yield folded
        text = folded
    for _ in range(PERCENT_ROUNDS):
        decoded = reread(text, _PERCENT, _of_percent) if "%" in text.text else text
        if decoded is text:
            return
        yield decoded
        text = decoded


def of_json(text: str) -> Reading:
    """What the strings of a JSON text say, with its punctuation around them."""
    whole = Reading(text)
    return reread(whole, JSON_ESCAPE, unescaped) if "\\" in text else whole


def unescaped(escape: str) -> str:
    """The character that an escape in a JSON string stands for; what is no such escape stands for itself."""
    try:
        return str(json.loads(f'"{escape}"'))
    except ValueError:
        return escape


def base64_texts(text: str) -> Iterator[tuple[int, int, str]]:
    """Every run of base64 that decodes to text: start, end, and that text."""
    for match in _BASE64.finditer(text):
        decoded = _of_base64(match[0])
        if decoded:
            yield *match.span(), decoded


@lru_cache(maxsize=8192)
def _folded(char: str) -> str:
    """What a character looks like to a reader: NFKC, digits of any script, plain dashes and spaces, nothing unseen."""
    category = unicodedata.category(char)
    if category in ("Cf", "Mn", "Me") or char == "\u115f":
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd" or char == "\u2212":
        return "-"
    if category == "Zs":
        return " "
    return unicodedata.normalize("NFKC", char)


def _of_percent(code: str) -> str:
    return chr(int(code[1:], 16))


def _of_base64(run: str) -> str | None:
    digits = run.rstrip("=").translate(_URL_ALPHABET)
    try:
        data = binascii.a2b_base64(digits + "==")
        decoded = data.decode()
    except ValueError:  # no base64, or not of text
        return None
    return None if _UNPRINTABLE.search(decoded) else decoded
