"""From JSON text to a value, or to a problem that says where the text goes wrong."""

import json
import re
from typing import Any

import msgspec

from ostler.domain.schema.run import Problem

_FENCE = re.compile(r"```(?:json\b|[a-z0-9]{0,20}[ \t]{0,8}\n)?", re.ASCII | re.IGNORECASE)


def unfenced(text: str) -> str:
    """What stands between code fences, if all of `text` does; a closing fence without an opening one is dropped."""
    if not text.endswith("```"):
        return text
    opening = _FENCE.match(text)
    if opening is not None and opening.end() <= len(text) - 3:
        return text[opening.end() : -3].strip()
    return text[:-3].rstrip() if text.count("```") == 1 else text


def parse_json(text: str) -> tuple[Any, Problem | None]:
    """The value that `text` is the JSON of, or the problem with its line and column, counted from 1."""
    try:
        return msgspec.json.decode(text), None
    except RecursionError:
        return None, Problem("", "this JSON is nested too deeply")
    except (msgspec.DecodeError, UnicodeError) as error:
        return None, Problem("", _explained(text) or str(error))


def _explained(text: str) -> str | None:
    """What the slower and more talkative decoder says; None if it sees nothing wrong."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        hint = " (a line break in a string is written \\n)" if "control character" in error.msg else ""
        return f"{error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}{hint}"
    except (ValueError, RecursionError):
        return None
    return None
