"""JSON Schema, compiled once into closures: judges a value in about a microsecond, in words a model can act upon.

Draft 2020-12 (https://json-schema.org/draft/2020-12), as much of it as parameters of tools use. A keyword outside of
`form.KEYWORDS` is refused when a schema is compiled, so that no constraint is ever ignored. Annotations have no effect,
but for `default`, which fills in a missing property. Patterns are searched for with Python's `re`, read as ECMA-262
reads them: `\\d` and `\\w` are ASCII, and `$` is the very end, not before a last line break. They are as trusted as the
schema is: one that backtracks without end is not recognised.

A value is what JSON decodes to: exactly None, bool, int, float, str, list and dict. Anything else, NaN, infinity and
nesting too deep are problems, never exceptions. 1.0 is an integer, true is not a number.
"""

from functools import lru_cache
from typing import Any

import msgspec

from ostler.domain.schema.builder import Builder, Schema
from ostler.domain.schema.form import form_problems
from ostler.domain.schema.run import Problem, Validator, make_validator
from ostler.domain.schema.text import parse_json, unfenced
from ostler.kernel.errors import DefinitionInvalid

__all__ = ["Problem", "Schema", "Validator", "compile_schema", "judge_answer", "parse_json", "validator_for"]


def compile_schema(schema: Schema, source: str = "The schema") -> Validator:
    """Raises `DefinitionInvalid` with every malformed, unknown or unsupported part of `schema`."""
    if problems := form_problems(schema):
        raise DefinitionInvalid(source, [*problems])
    builder = Builder(schema)
    check = builder.build(schema, None)
    if problems := builder.settle_defaults():
        raise DefinitionInvalid(source, [*problems])
    return make_validator(check)


def validator_for(parameters: dict[str, Any]) -> Validator:
    """The validator of a tool's parameters, compiled at first use. They are an object, said or not.

    Found by content, not by identity: a schema that comes out of the log a second time is not compiled again, and one
    that somebody changes is not mistaken for what it was.
    """
    try:
        return _compiled(msgspec.json.encode(parameters))
    except TypeError as error:
        raise DefinitionInvalid("The schema", [("", f"is not JSON: {error}")]) from error


def judge_answer(text: str, returns: dict[str, Any]) -> tuple[str, list[Problem]]:
    """The JSON that a model answered with, and what is wrong with it by this schema.

    A code fence around it is dropped. Missing properties with a default are filled in.
    """
    written = unfenced(text.strip())
    value, problem = parse_json(written)
    if problem is not None:
        return written, [problem]
    filled, problems = _compiled_answer(msgspec.json.encode(returns))(value)
    return (written if filled is value else msgspec.json.encode(filled).decode()), problems


@lru_cache(maxsize=4096)
def _compiled_answer(encoded: bytes) -> Validator:
    return compile_schema(msgspec.json.decode(encoded), "what the agent returns")


@lru_cache(maxsize=4096)
def _compiled(encoded: bytes) -> Validator:
    parameters: dict[str, Any] = msgspec.json.decode(encoded)
    if parameters.setdefault("type", "object") != "object":
        raise DefinitionInvalid("The schema", [("type", "the parameters of a tool are an object")])
    return compile_schema(parameters)
