"""A knowledge graph as it is handed over, and as node-link JSON; GraphML and DOT are beside this."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ostler.domain.knowledge.graph import Edge, Entity
from ostler.domain.memory.memory import Value
from ostler.kernel.errors import UsageError
from ostler.kernel.event import moment, timestamp_if_known

T = TypeVar("T", bound="Node | Link")

RELATED = "related to"
"""The name of a relation that a file of others names none of."""
NAMES = ("id", "source", "target", "key")
"""What is text here and may be a number in files of others."""


class Statement(msgspec.Struct, frozen=True):
    """A relation with what its fact says, who wrote that, and whose words it may be made of.

    `is_single`: the subject has one such relation at a time.
    """

    edge: Edge
    text: str = ""
    is_single: bool = False
    writer: str = ""
    sources: tuple[str, ...] = ()


class Exchange(msgspec.Struct, frozen=True):
    """What is handed over: entities in the order of their names, and what is stated of them."""

    entities: tuple[Entity, ...]
    statements: tuple[Statement, ...]


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entity in node-link JSON."""

    id: str
    kind: str = ""
    properties: dict[str, Value] = {}
    labels: tuple[str, ...] = ()


class Link(msgspec.Struct, frozen=True, omit_defaults=True):
    """A relation in node-link JSON; `key` is the id of its fact. Moments are RFC 3339."""

    source: str
    target: str
    relation: str
    key: str = ""
    weight: float = 1.0
    properties: dict[str, Value] = {}
    labels: tuple[str, ...] = ()
    valid_from: str = ""
    valid_to: str = ""
    text: str = ""
    single: bool = False
    writer: str = ""
    sources: tuple[str, ...] = ()


class NodeLink(msgspec.Struct, frozen=True):
    """The file: what NetworkX calls node-link data."""

    nodes: tuple[Node, ...]
    edges: tuple[Link, ...] = ()
    directed: bool = True
    multigraph: bool = True


class Foreign(msgspec.Struct, frozen=True):
    """The file as others write it, who call edges `links` (d3, older NetworkX) and add what they like."""

    nodes: tuple[dict[str, Any], ...]
    edges: tuple[dict[str, Any], ...] = ()
    links: tuple[dict[str, Any], ...] = ()
    directed: bool = True


def node_of(entity: Entity) -> Node:
    """An entity as it is written down."""
    return Node(entity.name, entity.kind, entity.properties, entity.labels)


def link_of(statement: Statement) -> Link:
    """A relation as it is written down."""
    edge = statement.edge
    return Link(
        edge.subject,
        edge.object,
        edge.name,
        edge.id,
        edge.weight,
        edge.properties,
        edge.labels,
        timestamp_if_known(edge.valid_from_us),
        timestamp_if_known(edge.valid_to_us),
        statement.text,
        statement.is_single,
        statement.writer,
        statement.sources,
    )


def node_link(exchange: Exchange) -> NodeLink:
    """What is handed over, as it is written down."""
    return NodeLink(tuple(map(node_of, exchange.entities)), tuple(map(link_of, exchange.statements)))


def from_node_link(file: NodeLink) -> Exchange:
    """What was written down. Raises `UsageError` for what makes no graph."""
    if not file.directed:
        raise UsageError("This graph has no directions, and relations have.", hint="Export it as a directed graph.")
    entities = tuple(Entity(node.id, node.kind, node.properties, node.labels) for node in file.nodes)
    return Exchange(entities, tuple(_statement(number, link) for number, link in enumerate(file.edges, 1)))


def to_json(exchange: Exchange) -> str:
    """Node-link JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(node_link(exchange)), indent=2).decode() + "\n"


def from_json(text: str) -> Exchange:
    """What is in node-link JSON. Raises `UsageError`.

    Of files of others, `relation` or `label` names a relation, else it is `related to`; what they say of an entity or a
    relation besides becomes its properties.
    """
    try:
        file = msgspec.json.decode(text, type=Foreign)
        nodes = tuple(_known(node, Node) for node in file.nodes)
        links = tuple(_known(_named(link), Link) for link in (*file.edges, *file.links))
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"This is no graph in node-link JSON: {error}.") from error
    return from_node_link(NodeLink(nodes, links, file.directed))


def _named(link: Mapping[str, Any]) -> Mapping[str, Any]:
    if "relation" in link:
        return link
    return {"relation": link.get("label", RELATED), **{name: value for name, value in link.items() if name != "label"}}


def _known(said: Mapping[str, Any], type_: type[T]) -> T:
    """What is said of one, with a property for all that it has no field for. Raises `ValidationError`."""
    fields = type_.__struct_fields__
    known: dict[str, Any] = {
        name: str(value) if name in NAMES else value for name, value in said.items() if name in fields
    }
    more = {name: _value(value) for name, value in said.items() if name not in fields and value is not None}
    return msgspec.convert({**known, "properties": {**more, **known.get("properties", {})}}, type_)


def _value(value: Any) -> Value:
    """What can be a property: lists and tables as JSON."""
    return value if isinstance(value, Value) else msgspec.json.encode(value).decode()


def _statement(number: int, link: Link) -> Statement:
    if not (link.source and link.target and link.relation):
        raise UsageError(f"Relation {number} lacks its source, its target or its name (`relation`).")
    edge = Edge(
        link.key,
        link.source,
        link.relation,
        link.target,
        link.weight,
        link.labels,
        _moment(number, link.valid_from),
        _moment(number, link.valid_to),
        link.properties,
    )
    return Statement(edge, link.text, link.single, link.writer, link.sources)


def _moment(number: int, text: str) -> int | None:
    at_us = moment(text) if text else None
    if text and at_us is None:
        raise UsageError(f"Relation {number} is said to be valid from or to {text!r}, which is no moment.")
    return at_us
