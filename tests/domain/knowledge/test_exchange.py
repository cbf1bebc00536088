"""What is handed over is read back as it was, by us and by others."""

import json
import re

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.knowledge.dot import quoted, to_dot
from ostler.domain.knowledge.exchange import Exchange, Statement, from_json, to_json
from ostler.domain.knowledge.graph import Edge, Entity
from ostler.domain.knowledge.graphml import from_graphml, to_graphml
from ostler.domain.knowledge.markup import FORBIDDEN
from ostler.kernel.errors import UsageError

writable = st.characters(exclude_categories=["Cs"]).filter(lambda char: not FORBIDDEN.match(char))
texts = st.text(writable, max_size=8)
names = st.one_of(st.sampled_from(['a "b" <c> & d', "x\\y\nz", "tab\there\r", " ", "Zoë 漢字"]), texts).filter(bool)
words = st.lists(st.sampled_from(["untrusted", "tool.web.fetch", "a \t& <b>"]), max_size=2).map(tuple)
values = st.one_of(texts, st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
properties = st.dictionaries(names, values, max_size=3)
moments = st.one_of(st.none(), st.integers(0, 4_000_000_000_000_000))


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    known = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    entities = [Entity(name, draw(texts), draw(properties), draw(words)) for name in known]
    ends = st.sampled_from(known)
    edges = [
        Edge(
            f"mem_{number}",
            draw(ends),
            draw(names),
            draw(ends),
            draw(st.floats(allow_nan=False, allow_infinity=False)),
            draw(words),
            draw(moments),
            draw(moments),
            draw(properties),
        )
        for number in range(draw(st.integers(0, 4)))
    ]
    statements = [Statement(edge, draw(texts), draw(st.booleans()), draw(texts), draw(words)) for edge in edges]
    return Exchange(tuple(entities), tuple(statements))


@settings(max_examples=60)
@given(exchanges())
def test_what_is_written_as_json_is_read_back_the_same(exchange: Exchange) -> None:
    assert from_json(to_json(exchange)) == exchange


@settings(max_examples=60)
@given(exchanges())
def test_what_is_written_as_graphml_is_read_back_the_same(exchange: Exchange) -> None:
    assert from_graphml(to_graphml(exchange)) == exchange


def test_characters_that_no_xml_can_hold_are_replaced_and_nothing_else() -> None:
    found = from_graphml(to_graphml(Exchange((Entity("a\x00b\ufffe<"),), ())))
    assert found.entities == (Entity("a\ufffdb\ufffd<"),)


FAMILY = Exchange(
    (Entity("Ada", "person", {"born": 1815}), Entity('The "Engine"\n& more')),
    (
        Statement(Edge("mem_1", "Ada", "works on", 'The "Engine"\n& more', 2.5, ("untrusted",)), "She does."),
        Statement(Edge("mem_2", "Ada", "knows", "Ada", valid_from_us=0), is_single=True),
    ),
)


def test_networkx_reads_the_same_entities_and_relations_from_both_files(tmp_path) -> None:
    file = tmp_path / "graph.graphml"
    file.write_text(to_graphml(FAMILY))
    for found in (networkx.node_link_graph(json.loads(to_json(FAMILY)), edges="edges"), networkx.read_graphml(file)):
        assert found.is_directed()
        assert list(found.nodes) == ["Ada", 'The "Engine"\n& more']
        assert [(one, other, data["relation"]) for one, other, data in found.edges(data=True)] == [
            ("Ada", 'The "Engine"\n& more', "works on"),
            ("Ada", "Ada", "knows"),
        ]
        assert found.nodes["Ada"]["kind"] == "person"


def test_what_networkx_writes_can_be_read(tmp_path) -> None:
    graph = networkx.MultiDiGraph()
    graph.add_edge("Ada", "London", label="lives in", since=1835, weight=2)
    graph.add_edge("Ada", "Engine")
    networkx.write_graphml(graph, tmp_path / "graph.graphml")
    found = from_graphml((tmp_path / "graph.graphml").read_text())
    assert [entity.name for entity in found.entities] == ["Ada", "London", "Engine"]
    assert [(one.edge.name, one.edge.object, one.edge.weight, one.edge.properties) for one in found.statements] == [
        ("lives in", "London", 2, {"since": 1835}),
        ("related to", "Engine", 1, {}),
    ]


@pytest.mark.parametrize("edges", ["edges", "links"])
def test_node_link_json_of_others_loses_no_relation_and_no_property(edges: str) -> None:
    graph = networkx.MultiDiGraph()
    graph.add_node(4711, kind="order", total=89.5, lines=["a", 2], note=None)
    graph.add_edge("Ada", 4711, relation="placed", since=2024)
    graph.add_edge("Ada", 4711, label="paid", weight=2)
    graph.add_edge("Ada", "Bonn")
    found = from_json(json.dumps(networkx.node_link_data(graph, edges=edges)))
    assert found.entities == (
        Entity("4711", "order", {"total": 89.5, "lines": '["a",2]'}),
        Entity("Ada"),
        Entity("Bonn"),
    )
    assert [one.edge for one in found.statements] == [
        Edge("0", "Ada", "placed", "4711", properties={"since": 2024}),
        Edge("1", "Ada", "paid", "4711", 2),
        Edge("0", "Ada", "related to", "Bonn"),
    ]


DEAR = """<graphml><key id="w" attr.name="weight" attr.type="double"/><graph edgedefault="directed">
    <edge source="a" target="b"><data key="w">much</data></edge></graph></graphml>"""


@pytest.mark.parametrize(
    ("read", "text", "problem"),
    [
        (from_json, "[]", "no graph in node-link JSON"),
        (from_json, '{"nodes": [{"name": "a"}]}', "no graph in node-link JSON: .*missing required field `id`"),
        (from_json, '{"nodes": [], "edges": [{"source": "a", "target": "b", "relation": ""}]}', "Relation 1 lacks"),
        (from_json, '{"nodes": [], "directed": false}', "no directions"),
        (
            from_json,
            '{"nodes": [], "edges": [{"source": "a", "target": "b", "relation": "r", "valid_to": "soon"}]}',
            "'soon', which is no moment",
        ),
        (from_graphml, "<graph", "This is no GraphML"),
        (from_graphml, "<graphml/>", "holds no graph"),
        (from_graphml, '<!DOCTYPE x [<!ENTITY a "aaaa">]><graphml/>', "entities of its own"),
        (from_graphml, '<graphml><graph edgedefault="undirected"/></graphml>', "no directions"),
        (
            from_graphml,
            "<graphml>" + '<key id="%d"><default/></key>' * 999 % tuple(range(999)) + "<graph/></graphml>",
            "defaults",
        ),
        (from_json, '{"nodes": [], "more": ' + "[" * 100_000 + "]" * 100_000 + "}", "no graph in node-link JSON"),
        (
            from_graphml,
            DEAR,
            "'much' is not of the type double",
        ),
    ],
)
def test_what_is_no_graph_is_refused_and_why(read, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read(text)


def unquoted(text: str) -> str:
    """What Graphviz shows of a string."""
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text[1:-1])


@given(st.text())
def test_a_string_of_dot_means_the_text_and_ends_where_it_should(text: str) -> None:
    written = quoted(text)
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', written)
    kept = text.replace("\r", "")
    assert unquoted(written) == "".join(char if char >= " " or char in "\t\n" else "\ufffd" for char in kept)


def test_dot_has_a_line_for_everything_and_marks_what_is_untrusted() -> None:
    lines = to_dot(FAMILY).splitlines()
    assert (lines[0], lines[-1]) == ("digraph knowledge {", "}")
    assert '  "Ada" [label="Ada\\n(person)"];' in lines
    (doubtful,) = [line for line in lines if "works on" in line]
    assert doubtful.startswith('  "Ada" -> "The \\"Engine\\"\\n& more" [label="works on (2.5)", style="dashed"')
    assert [("dashed" in line) for line in lines if "->" in line] == [True, False]
