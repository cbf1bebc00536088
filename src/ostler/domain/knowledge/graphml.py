"""A knowledge graph in GraphML, which Gephi, yEd, Cytoscape and NetworkX read and write."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from xml.etree import ElementTree

import msgspec

from ostler.domain.knowledge.exchange import RELATED, Exchange, Link, Node, NodeLink, from_node_link, node_link
from ostler.domain.knowledge.markup import escaped
from ostler.domain.memory.memory import Value
from ostler.kernel.errors import UsageError

NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
PROPERTY = "property."
"""What the names of properties begin with, so that none of them is taken for what every relation has."""
TYPES: dict[type, str] = {bool: "boolean", int: "long", float: "double", str: "string"}
SEPARATOR = "\n"
"""Between the labels, and the sources, of one relation or entity."""

DEFAULTS_MAX = 200
"""Each entity and each relation has all of them, so that a small file could say very much."""

Data = list[tuple[str, Value]]
"""Names and values of one element, in order."""


class Keys(NamedTuple):
    """What a document declares, and what is meant where nothing is said, by the ids of the keys."""

    declared: dict[str, ElementTree.Element]
    defaults: dict[str, str]


def to_graphml(exchange: Exchange) -> str:
    """A GraphML document. Characters that XML cannot hold become U+FFFD."""
    written = node_link(exchange)
    nodes = [(_tag("node", id=node.id), _data_of_node(node)) for node in written.nodes]
    edges = [
        (_tag("edge", **({"id": link.key} if link.key else {}), source=link.source, target=link.target), _data(link))
        for link in written.edges
    ]
    keys: dict[tuple[str, str, str], str] = {}
    body = [*_elements("node", nodes, keys), *_elements("edge", edges, keys)]
    declared = (
        f"  {_tag('key', **{'id': id_, 'for': domain, 'attr.name': name, 'attr.type': type_})}/>"
        for (domain, name, type_), id_ in keys.items()
    )
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<graphml xmlns="{NAMESPACE}">', *declared]
    return "\n".join([*lines, '  <graph edgedefault="directed">', *body, "  </graph>", "</graphml>", ""])


def from_graphml(text: str) -> Exchange:
    """What is in a GraphML document. Raises `UsageError`.

    Of documents of others, `relation` or `label` names a relation, else it is `related to`; what they say of an entity
    or a relation besides becomes its properties.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UsageError("This GraphML declares entities of its own, which are not read.", hint="Save it without them.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UsageError(f"This is no GraphML: {error}.") from error
    graph = root.find("{*}graph")
    if graph is None:
        raise UsageError("This GraphML holds no graph.")
    keys = _keys(root)
    nodes = tuple(_node(element, keys) for element in graph.findall("{*}node"))
    edges = tuple(_link(element, keys) for element in graph.findall("{*}edge"))
    return from_node_link(NodeLink(nodes, edges, directed=graph.get("edgedefault") == "directed"))


def _data_of_node(node: Node) -> Data:
    known = [("kind", node.kind), ("labels", SEPARATOR.join(node.labels))]
    return [*((name, value) for name, value in known if value), *_properties(node.properties)]


def _data(link: Link) -> Data:
    known: Data = [
        ("relation", link.relation),
        ("weight", float(link.weight)),
        ("labels", SEPARATOR.join(link.labels)),
        ("valid_from", link.valid_from),
        ("valid_to", link.valid_to),
        ("text", link.text),
        ("single", "true" if link.single else ""),
        ("writer", link.writer),
        ("sources", SEPARATOR.join(link.sources)),
    ]
    return [*((name, value) for name, value in known if value != ""), *_properties(link.properties)]


def _properties(properties: dict[str, Value]) -> Data:
    return [(PROPERTY + name, value) for name, value in properties.items()]


def _elements(
    domain: str, elements: Iterable[tuple[str, Data]], keys: dict[tuple[str, str, str], str]
) -> Iterator[str]:
    for tag, data in elements:
        yield f"    {tag}>"
        for name, value in data:
            key = keys.setdefault((domain, name, TYPES[type(value)]), f"d{len(keys)}")
            said = ("true" if value else "false") if isinstance(value, bool) else str(value)
            yield f'      <data key="{key}">{escaped(said)}</data>'
        yield f"    </{domain}>"


def _tag(element: str, **attributes: str) -> str:
    """The beginning of a tag, still open."""
    return " ".join([f"<{element}", *(f'{name}="{escaped(value)}"' for name, value in attributes.items())])


def _keys(root: ElementTree.Element) -> Keys:
    """What is declared, with the defaults. Raises `UsageError` for more of these than an entity has properties."""
    keys = {key.get("id", ""): key for key in root.findall("{*}key")}
    found = [(id_, key.find("{*}default")) for id_, key in keys.items()]
    defaults = {id_: default.text or "" for id_, default in found if default is not None}
    if len(defaults) > DEFAULTS_MAX:
        raise UsageError(f"This GraphML declares {len(defaults)} defaults, and {DEFAULTS_MAX} are read at most.")
    return Keys(keys, defaults)


def _values(element: ElementTree.Element, keys: Keys) -> dict[str, Value]:
    """What an element says, by the names of the keys; what is declared and not said has its default."""
    found: dict[str, Value] = {}
    domain = element.tag.rpartition("}")[2]
    said = {data.get("key", ""): data.text or "" for data in element.findall("{*}data")}
    for id_, text in {**keys.defaults, **said}.items():
        key = keys.declared.get(id_)
        if key is not None and key.get("for", "all") in (domain, "all"):
            found[key.get("attr.name", id_)] = _value(text, key.get("attr.type", "string"))
    return found


def _value(text: str, type_: str) -> Value:
    try:
        if type_ in ("int", "long"):
            return int(text)
        if type_ in ("float", "double"):
            return float(text)
    except ValueError as error:
        raise UsageError(f"{text[:40]!r} is not of the type {type_} that is declared.") from error
    return text.strip().lower() == "true" if type_ == "boolean" else text


def _node(element: ElementTree.Element, keys: Keys) -> Node:
    values = _values(element, keys)
    kind, labels = str(values.pop("kind", "")), str(values.pop("labels", ""))
    return Node(element.get("id", ""), kind, _plain(values), _split(labels))


def _link(element: ElementTree.Element, keys: Keys) -> Link:
    values = _values(element, keys)
    known: dict[str, Any] = {name: values.pop(name) for name in Link.__struct_fields__ if name in values}
    relation = known.get("relation") or values.pop("label", RELATED)
    ends = {"source": element.get("source"), "target": element.get("target"), "key": element.get("id", "")}
    lists = {name: _split(str(known.get(name, ""))) for name in ("labels", "sources")}
    given = {**known, **lists, **ends, "relation": relation, "properties": _plain(values)}
    given["single"] = known.get("single") in (True, "true")
    try:
        return msgspec.convert(given, Link)
    except msgspec.ValidationError as error:
        raise UsageError(f"A relation of this GraphML makes no sense: {error}.") from error


def _plain(values: dict[str, Value]) -> dict[str, Value]:
    return {name.removeprefix(PROPERTY): value for name, value in values.items()}


def _split(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(SEPARATOR)))
