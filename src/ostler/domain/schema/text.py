"""From JSON text to a value, or to a problem that says where the text goes wrong."""

import json
from typing import Any

import msgspec

from ostler.domain.schema.run import Problem


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
