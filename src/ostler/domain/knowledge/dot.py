"""A knowledge graph in DOT, the language of Graphviz: written only, for pictures."""

from collections.abc import Iterable

from ostler.domain.knowledge.exchange import Exchange
from ostler.domain.provenance import UNTRUSTED

UNTRUSTED_LOOK = 'style="dashed", color="#b45309", fontcolor="#b45309"'


def to_dot(exchange: Exchange) -> str:
    """A directed graph; what is untrusted is dashed and amber, and says so in its tooltip."""
    return "\n".join(["digraph knowledge {", *_lines(exchange), "}", ""])


def quoted(text: str) -> str:
    """A string of DOT that means exactly this text; characters that it cannot hold become U+FFFD."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")
    return '"' + "".join(char if char >= " " or char == "\t" else "\ufffd" for char in escaped) + '"'


def _lines(exchange: Exchange) -> Iterable[str]:
    yield '  node [shape="box", style="rounded", fontname="sans-serif"];'
    yield '  edge [fontname="sans-serif", fontsize="10"];'
    for entity in exchange.entities:
        label = f"{entity.name}\n({entity.kind})" if entity.kind else entity.name
        yield f"  {quoted(entity.name)} [label={quoted(label)}];"
    for statement in exchange.statements:
        edge = statement.edge
        looks = [f"label={quoted(edge.name if edge.weight == 1 else f'{edge.name} ({edge.weight:g})')}"]
        if UNTRUSTED in edge.labels:
            looks += [UNTRUSTED_LOOK, f"tooltip={quoted(UNTRUSTED)}"]
        yield f"  {quoted(edge.subject)} -> {quoted(edge.object)} [{', '.join(looks)}];"
