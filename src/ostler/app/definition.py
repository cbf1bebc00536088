"""Reading definitions that people write: every problem with its path, not only the first."""

from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import DefinitionInvalid

T = TypeVar("T")
Problem = tuple[str, str]


def read(data: Any, shape: type[T], *, source: str) -> T:
    """`data` (as parsed from TOML or JSON) as a `shape`. Raises `DefinitionInvalid` with every problem found."""
    problems = problems_in(data, shape)
    if problems:
        raise DefinitionInvalid(source, problems)
    return msgspec.convert(data, shape)


def problems_in(data: Any, shape: Any, path: str = "") -> list[Problem]:
    """What keeps `data` from being a `shape`, looking into structs, and lists and tables of them."""
    if get_origin(shape) in (UnionType, Union):
        kinds = [kind for kind in get_args(shape) if kind is not NoneType]
        if len(kinds) == 1:
            return [] if data is None else problems_in(data, kinds[0], path)
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        return _problems_in_struct(data, shape, path)
    if get_origin(shape) is tuple and isinstance(data, list):
        item = get_args(shape)[0]
        return [problem for n, value in enumerate(data) for problem in problems_in(value, item, f"{path}[{n}]")]
    if get_origin(shape) is dict and isinstance(data, dict):
        item = get_args(shape)[1]
        return [problem for key, value in data.items() for problem in problems_in(value, item, _below(path, key))]
    if get_origin(shape) is Literal:
        known = [repr(one) for one in get_args(shape)]
        return [] if data in get_args(shape) else [(path, f"{data!r} is none of {', '.join(known)}")]
    try:
        msgspec.convert(data, shape)
    except msgspec.ValidationError as error:
        message, _, inner = str(error).partition(" - at `$")
        return [(path + inner.rstrip("`"), message[:1].lower() + message[1:])]
    return []


def _problems_in_struct(data: Any, shape: type[msgspec.Struct], path: str) -> list[Problem]:
    if not isinstance(data, dict):
        return [(path, f"expected a table, got {type(data).__name__}")]
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    problems = []
    for key, value in data.items():
        here = _below(path, key)
        if key in fields:
            problems += problems_in(value, fields[key].type, here)
        else:
            near = did_you_mean(str(key), list(fields))
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(fields)}"
            problems.append((here, f"is unknown ({hint})"))
    for name, field in fields.items():
        if field.required and name not in data:
            problems.append((_below(path, name), "is missing"))
    return problems


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
