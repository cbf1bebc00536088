"""Canonical JSON: equal values have equal bytes, whoever writes them (RFC 8785, JSON Canonicalization Scheme)."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

_EXACT = 2**53
_text = msgspec.json.Encoder().encode


def canonical(value: Any) -> bytes:
    """The one JSON text of `value`, made of what JSON has: None, booleans, numbers, text, lists, and mappings of text.

    Raises `ValueError` for what has no such text: infinities, NaN, integers beyond 2**53, and text that is no Unicode.
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _write(value: Any, parts: list[bytes]) -> None:
    if value is None or isinstance(value, bool | str):
        parts.append(_text(value))
    elif isinstance(value, int):
        if not -_EXACT <= value <= _EXACT:
            raise ValueError(f"{value} has no exact JSON number")
        parts.append(b"%d" % value)
    elif isinstance(value, float):
        parts.append(_number(value))
    elif isinstance(value, Mapping):
        parts.append(b"{")
        for place, key in enumerate(sorted(value, key=_utf16)):
            parts += [b"," if place else b"", _text(key), b":"]
            _write(value[key], parts)
        parts.append(b"}")
    elif isinstance(value, list | tuple):
        parts.append(b"[")
        for place, item in enumerate(value):
            parts.append(b"," if place else b"")
            _write(item, parts)
        parts.append(b"]")
    else:
        raise ValueError(f"{type(value).__name__} has no place in JSON")


def _utf16(key: str) -> bytes:
    """What object keys are sorted by: their UTF-16 code units (RFC 8785, 3.2.3)."""
    if not isinstance(key, str):
        raise ValueError(f"a key is {type(key).__name__}, not text")
    return key.encode("utf-16-be")


def _number(value: float) -> bytes:
    """As ECMAScript writes numbers (ECMA-262, Number::toString): the shortest digits that give the same value."""
    if not isfinite(value):
        raise ValueError(f"{value} has no JSON number")
    if value == 0:
        return b"0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int), "only finite numbers come so far"
    text, point = "".join(map(str, digits)), len(digits) + exponent
    if 0 < point <= 21:
        text = text.ljust(point, "0") if point >= len(text) else f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        text = f"{text[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"{'-' if sign else ''}{text}".encode()
