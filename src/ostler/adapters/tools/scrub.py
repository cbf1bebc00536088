"""Takes secrets out of texts, in the forms in which tools, libraries and protocols write them."""

import base64
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO
from urllib.parse import quote, quote_plus

from ostler.domain.secret import Secret

_BACKSLASHES_0 = r"\\{0,255}+"
_BACKSLASHES_1 = r"\\{1,255}+"
_SHORT = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
"""Letters that stand for a control character after a backslash."""
_ALPHABETS = ((b"", b""), (b"+/", b"-_"))
"""Of base64, and of its form for URLs (RFC 4648, sections 4 and 5)."""


class Scrubber:
    """Replaces values by `[secret:NAME]`: as they are, escaped however often, and in base64, hex and URLs.

    What a program makes of a value beyond that (encrypted, compressed, spelled letter by letter) is not recognised.
    The time that it takes grows with the text alone.
    """

    def __init__(self, secrets: Iterable[Secret]) -> None:
        longest_first = sorted(secrets, key=lambda secret: len(secret.reveal()), reverse=True)
        self._names = [secret.name for secret in longest_first]
        groups = [f"({_pattern(secret.reveal())})" for secret in longest_first]
        self._pattern = re.compile("|".join(groups)) if groups else None

    def text(self, text: str) -> str:
        """The text without them."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"[secret:{self._names[(found.lastindex or 1) - 1]}]", text)

    def value(self, value: Any) -> Any:
        """The same value with every text in it scrubbed; what is no text, list or dictionary is as it was."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def _pattern(value: str) -> str:
    """An expression for the value in all its forms, without groups."""
    encoded = sorted(set(encodings(value)), key=len, reverse=True)
    return "|".join([_escaped(value), *map(re.escape, encoded)])


def _escaped(value: str) -> str:
    """An expression for the value as it is, or as text within text (JSON in JSON, Python's `repr`) to any depth.

    Each level doubles the backslashes, so they are not counted. Nothing is tried twice: runs of them are taken whole.
    """
    parts = []
    for char in re.sub(r"\\+", r"\\", value):
        if char.isascii() and (char.isalnum() or char in " -_.:,;|~"):
            parts.append(re.escape(char))
        elif char == "\\":
            parts.append(_BACKSLASHES_1)
        else:
            units = char.encode("utf-16-be")
            halves = [units[place : place + 2].hex() for place in range(0, len(units), 2)]
            ways = [rf"{_BACKSLASHES_0}{re.escape(_SHORT.get(char, char))}"]
            ways += ["".join(rf"{_BACKSLASHES_0}u(?i:{half})" for half in halves)]
            ways += [rf"{_BACKSLASHES_0}(?i:x{ord(char):02x}|u{ord(char):08x})"]
            parts.append(f"(?:{re.escape(char)}|{'|'.join(ways)})")
    return "".join(parts)


def encodings(value: str) -> Iterator[str]:
    """What URLs, hex and base64 make of the value."""
    data = value.encode()
    for encoded in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield encoded
        yield re.sub("%..", lambda found: found[0].lower(), encoded)
    yield data.hex()
    yield data.hex().upper()
    yield from _in_base64(data)


def _in_base64(data: bytes) -> Iterator[str]:
    """What base64 makes of it wherever it stands in what is encoded: those characters that depend on it alone.

    Three bytes become four characters, so there are three ways to stand.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).rstrip(b"=")
        beyond = (before + len(data)) % 3
        own = encoded[-(-before * 4 // 3) : len(encoded) - (1 if beyond else 0)]
        for plain, other in _ALPHABETS:
            yield own.translate(bytes.maketrans(plain, other)).decode()


class Seen:
    """Every secret that this process has lent, so that what is printed can be rid of them."""

    def __init__(self) -> None:
        self._secrets: dict[str, Secret] = {}
        self.scrubber = Scrubber(())

    def add(self, secrets: Iterable[Secret]) -> None:
        """Take note of them, before they are lent."""
        new = {secret.reveal(): secret for secret in secrets if secret.reveal() not in self._secrets}
        if new:
            self._secrets |= new
            self.scrubber = Scrubber(self._secrets.values())


class ScrubbedStream:
    """A text stream without secrets: what tools print and log goes through it.

    Each write is looked at by itself, as `print` and `logging` make them. Bytes that are written to its buffer are not
    looked at.
    """

    def __init__(self, stream: TextIO, seen: Seen) -> None:
        self._stream = stream
        self._seen = seen

    def write(self, text: str) -> int:
        self._stream.write(self._seen.scrubber.text(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
