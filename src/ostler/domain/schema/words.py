"""What problems say of values."""

import json
from collections.abc import Iterable
from typing import Any

from ostler.domain.schema.text import parse_json
from ostler.domain.suggest import did_you_mean

KINDS: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
"""The types of JSON Schema, and what JSON of each decodes to. 1.0 is an integer, too."""

SHOWN_MAX = 60
LISTED_MAX = 20


def type_of(value: Any) -> str:
    """What JSON calls the type of a value."""
    if type(value) is float:
        return "integer" if value.is_integer() else "number"
    return next(name for name, kinds in KINDS.items() if type(value) in kinds)


def described(value: Any) -> str:
    """A value in a few words, cut short."""
    if value is None:
        return "null"
    if isinstance(value, list | dict):
        return f"{type_of(value)} of {len(value)} {'items' if isinstance(value, list) else 'properties'}"
    return f"{'number' if isinstance(value, float) else type_of(value)} {shown(value)}"


def shown(value: Any) -> str:
    """The value as JSON, shortened."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > SHOWN_MAX:
        value = value[:SHOWN_MAX] + "…"
    text = json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    return text if isinstance(value, str) or len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def not_among(value: Any, allowed: list[Any]) -> str:
    """That a value is none of those allowed."""
    near = did_you_mean(value, [each for each in allowed if isinstance(each, str)]) if isinstance(value, str) else None
    hint = f" (did you mean {shown(near)}?)" if near else ""
    listed = ", ".join(map(shown, allowed[:LISTED_MAX])) + (" …" if len(allowed) > LISTED_MAX else "")
    return f"expected {'one of ' if len(allowed) > 1 else ''}{listed}, got {shown(value)}{hint}"


def unknown_property(name: str, known: Iterable[str]) -> str:
    """That an object has no such property, and which one may be meant."""
    names = [*known]
    near = did_you_mean(name, names)
    if near:
        return f"unknown property (did you mean {shown(near)}?)"
    return f"unknown property; known are: {', '.join(names[:LISTED_MAX]) or 'none'}"


def quoted_hint(value: Any, kinds: frozenset[type]) -> str:
    """Models like to put numbers and lists into quotes."""
    if type(value) is not str:
        return ""
    meant, problem = parse_json(value)
    return " (write it without the quotes)" if problem is None and type(meant) in kinds else ""


def one_of(names: Iterable[str]) -> str:
    """Some alternatives as a phrase."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
