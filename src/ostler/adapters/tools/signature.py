"""What a function's signature and docstring say: a description, a JSON Schema, and how to convert arguments."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec

from ostler.domain.tool import ToolRequest
from ostler.kernel.errors import DefinitionInvalid

_REF = "#/$defs/"
_VALUES = {"default", "const", "enum", "examples"}
"""Keywords whose content is data, not schema."""


class Signature(msgspec.Struct, frozen=True):
    """`parameters` is the JSON Schema; `arguments` a struct that validates and converts what arrives.

    `request` is the name of the parameter that takes the `ToolRequest` itself, which models do not see.
    """

    description: str
    parameters: dict[str, Any]
    arguments: type[msgspec.Struct]
    request: str | None


def read_signature(function: Callable[..., object], source: str) -> Signature:
    """Raises `DefinitionInvalid` for `source` with every problem that the function has as a tool."""
    problems: list[tuple[str, str]] = []
    hints = _hints(function, problems)
    parameters: list[inspect.Parameter] = []
    request = None
    for parameter in inspect.signature(function).parameters.values():
        if hints.get(parameter.name) is ToolRequest:
            request = parameter.name
        elif problem := _problem(parameter, hints):
            problems.append((parameter.name, problem))
        else:
            parameters.append(parameter)
    if problems:
        raise DefinitionInvalid(source, problems)
    description, documented = read_docstring(inspect.getdoc(function) or "")
    return Signature(
        description=description,
        parameters=_schema(parameters, hints, documented),
        arguments=_arguments(function.__name__, parameters, hints),
        request=request,
    )


def convert(arguments: Mapping[str, Any], struct: type[msgspec.Struct]) -> msgspec.Struct:
    """JSON values as the types that the function asks for. Raises `msgspec.ValidationError`."""
    return msgspec.convert(arguments, struct, str_keys=True, dec_hook=_to_model)


def _hints(function: Callable[..., object], problems: list[tuple[str, str]]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        problems.append(("annotations", f"cannot be resolved: {error}"))
        return {}


def _problem(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> str | None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return "takes any number of arguments; a model needs to know each by name"
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return "is positional-only; models pass arguments by name"
    if parameter.annotation is parameter.empty:
        return "has no type annotation"
    if parameter.name not in hints:  # the annotations as a whole are reported already
        return None
    try:
        msgspec.json.schema(hints[parameter.name], schema_hook=_model_schema)
    except (TypeError, ValueError) as error:
        return f"has a type without a JSON Schema: {str(error).splitlines()[-1]}"
    if parameter.default is not parameter.empty:
        return _default_problem(parameter.default, hints[parameter.name])
    return None


def _default_problem(default: object, hint: Any) -> str | None:
    try:
        value = _json_value(default)
    except (TypeError, ValueError):
        return f"has a default that cannot be written as JSON: {default!r}"
    try:
        msgspec.convert(value, hint, str_keys=True, dec_hook=_to_model)
    except msgspec.ValidationError as error:
        return f"has a default that is not of its type: {error}"
    return None


def _json_value(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=to_json))


def _schema(
    parameters: list[inspect.Parameter], hints: Mapping[str, Any], documented: Mapping[str, str]
) -> dict[str, Any]:
    schemas, definitions = msgspec.json.schema_components(
        [hints[parameter.name] for parameter in parameters], schema_hook=_model_schema, ref_template=_REF + "{name}"
    )
    properties: dict[str, Any] = {}
    for parameter, own in zip(parameters, schemas, strict=True):
        described = flatten(own, definitions)
        if parameter.name in documented:
            described = {"description": documented[parameter.name], **described}
        if parameter.default is not parameter.empty:
            described["default"] = parameter.default
        properties[parameter.name] = described
    whole: dict[str, Any] = {"type": "object", "properties": properties}
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    if required:
        whole["required"] = required
    whole["additionalProperties"] = False
    kept = _kept(properties, definitions)
    schema: dict[str, Any] = _json_value({**whole, "$defs": kept} if kept else whole)
    return schema


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type, of whatever a function's parameter may be. Raises `TypeError`."""
    (own,), definitions = msgspec.json.schema_components(
        [kind], schema_hook=_model_schema, ref_template=_REF + "{name}"
    )
    flat = flatten(own, definitions)
    kept = _kept({"": flat}, definitions)
    schema: dict[str, Any] = _json_value({**flat, "$defs": kept} if kept else flat)
    return schema


def flatten(schema: Any, definitions: Mapping[str, Any], open_refs: tuple[str, ...] = ()) -> Any:
    """The schema with references written out, except where a type contains itself, and objects closed.

    Not every model API follows `$ref`; a nested schema's own `$defs` (pydantic writes them) are looked up first.
    """
    if isinstance(schema, list):
        return [flatten(item, definitions, open_refs) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$defs" in schema:
        definitions = {**definitions, **schema["$defs"]}
        schema = {key: value for key, value in schema.items() if key != "$defs"}
    name = str(schema.get("$ref", "")).removeprefix(_REF)
    if name in definitions:
        if name in open_refs or _contains_itself(name, definitions):
            return dict(schema)
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return {**flatten(definitions[name], definitions, (*open_refs, name)), **beside}
    flat = {
        key: value if key in _VALUES else flatten(value, definitions, open_refs)
        for key, value in schema.items()
        if key != "title" or isinstance(value, dict)  # a property of that name
    }
    if isinstance(flat.get("properties"), dict) and flat.get("type") == "object":
        flat.setdefault("additionalProperties", False)
    return flat


def _refs(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_refs, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"].removeprefix(_REF)} if isinstance(schema.get("$ref"), str) else set()
    return own.union(*(_refs(value) for value in schema.values()))


def _contains_itself(name: str, definitions: Mapping[str, Any]) -> bool:
    return name in _reachable(_refs(definitions[name]), definitions)


def _reachable(names: set[str], definitions: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    while names:
        found |= names
        names = set().union(*(_refs(definitions[name]) for name in names if name in definitions)) - found
    return found


def _kept(properties: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that are still referred to: those of types that contain themselves."""
    names = _reachable(_refs(properties), definitions)
    return {name: flatten(definitions[name], definitions, (name,)) for name in sorted(names) if name in definitions}


def _arguments(name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter in parameters:
        default = parameter.default
        if default is parameter.empty:
            fields.append((parameter.name, hints[parameter.name]))
        else:
            fields.append((parameter.name, hints[parameter.name], msgspec.field(default_factory=_always(default))))
    return msgspec.defstruct(f"{name} arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _always(value: object) -> Callable[[], object]:
    return lambda: value


def _model_schema(cls: type) -> dict[str, Any]:
    """Schema of a pydantic model; recognised by what it can do, so that pydantic need not be there."""
    if not hasattr(cls, "model_json_schema"):
        raise TypeError(f"{getattr(cls, '__name__', cls)} is not supported; use a dataclass, a TypedDict or a model")
    schema: dict[str, Any] = cls.model_json_schema()
    return schema


def _to_model(cls: type, value: Any) -> Any:
    return cls.model_validate(value)  # type: ignore[attr-defined]  # `_model_schema` let nothing else through


def to_json(value: Any) -> Any:
    """A pydantic model as JSON values, for msgspec, which does not know them."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


_SECTION = re.compile(
    r"(args|arguments|parameters|returns?|yields?|raises|examples?|notes?|see also|warnings?|attributes):\s*$", re.I
)
_PARAMETERS = ("args", "arguments", "parameters")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_REST = re.compile(r":(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description, and that of each parameter, from Google style `Args:` or reST `:param name:`."""
    description: list[str] = []
    parameters: dict[str, list[str]] = {}
    section, current, item_indent = "", None, None
    for line in text.splitlines():
        words, indent = line.strip(), len(line) - len(line.lstrip())
        if match := _REST.match(words):
            section, item_indent = ":", indent
            current = parameters.setdefault(match[1], [match[2]])
        elif words.startswith(":") and indent == 0:
            section, current, item_indent = ":", None, None
        elif indent == 0 and _SECTION.match(words):
            section, current, item_indent = words.rstrip(": ").lower(), None, None
        elif not section:
            description.append(line)
        elif section in _PARAMETERS and words and (item_indent is None or indent <= item_indent):
            match = _GOOGLE.match(words)
            item_indent = indent
            current = parameters.setdefault(match[1], [match[2]]) if match else None
        elif current is not None and words and (item_indent is None or indent > item_indent):
            current.append(words)
        elif not words and section == ":":
            current = None
    return "\n".join(description).strip(), {name: " ".join(said).strip() for name, said in parameters.items()}
