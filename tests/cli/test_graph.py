"""`ostler graph`: looking at what is related, asking about it, handing it over and taking it in."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ostler.cli.exits import Exit
from tests.cli.conftest import Ostler

FAMILY = {
    "nodes": [{"id": "Ada", "kind": "person"}],
    "edges": [
        {"source": "Ada", "target": "Engine", "relation": "works on", "weight": 3},
        {"source": "Babbage", "target": "Engine", "relation": "designed", "text": "Babbage drew all of it."},
        {"source": "ada", "target": "London", "relation": "lives in", "labels": ["untrusted"], "sources": ["tool.web"]},
        {"source": "Engine", "target": "London", "relation": "is shown in", "valid_from": "1843-01-01"},
    ],
}


@pytest.fixture
def family(ostler: Ostler, project: Path) -> Ostler:
    """The command line of a project that knows of a family."""
    (project / "family.json").write_text(json.dumps(FAMILY))
    done = ostler("graph", "import", "family.json", "--shared", "--json")
    assert json.loads(done.stdout) == {
        "entities": 1,
        "new": 4,
        "known": 0,
        "ended": 0,
        "superseded": 0,
        "contradicts": 0,
    }
    return ostler


def asked(ostler: Ostler, *words: str) -> Any:
    return json.loads(ostler("graph", *words, "--shared", "--json").stdout)


def test_a_neighbourhood_is_a_tree_in_which_what_is_untrusted_is_marked(family: Ostler, project: Path) -> None:
    done = family("graph", "show", "ada", "--shared", "--depth", "2", "--svg", "ada.svg")
    assert done.stdout.splitlines() == [
        "Ada (person)",
        "├── works on → Engine [weight 3]",
        "│  ├─← designed ─ Babbage",
        "│  └── is shown in → London [from 1843-01-01]",
        "└── lives in → London ⚠ untrusted",
    ]
    assert ElementTree.parse(project / "ada.svg").getroot().tag.endswith("svg")
    found = asked(family, "show", "Babbage", "--depth", "2", "--relation", "designed")
    (relation,) = found["relations"]
    assert (relation["distance"], relation["is_untrusted"], found["is_cut"]) == (1, False, False)


def test_a_way_is_told_relation_by_relation_with_the_facts_that_state_them(family: Ostler) -> None:
    done = family("graph", "path", "Babbage", "London", "--shared")
    assert "2 steps, weights of 2 together." in done.stderr
    ids = [line.split()[-1] for line in done.stdout.splitlines()[2:]]
    shown = json.loads(family("memory", "show", *ids, "--json").stdout)
    assert [one["text"] for one in shown] == ["Babbage drew all of it.", "Engine is shown in London"]
    assert shown[0]["sources"] == ["import:family.json"]
    none = family("graph", "path", "London", "Ada", "--shared")
    assert (none.exit_code, none.stdout) == (0, "")
    assert "--direction both" in none.stderr
    back = asked(family, "path", "London", "Ada", "--direction", "in")
    assert [one["is_untrusted"] for one in back["relations"]] == [True]
    dear = asked(family, "path", "Ada", "London", "--by-weight")
    assert (dear["cost"], len(dear["relations"])) == (1, 1)


def test_the_whole_graph_is_ranked_and_grouped_and_searched_for_cycles(family: Ostler) -> None:
    ranks = asked(family, "rank", "--limit", "2")
    assert ([one["name"] for one in ranks["ranks"]], ranks["entities"]) == (["Engine", "Ada"], 4)
    assert asked(family, "rank", "--by", "betweenness")["ranks"][0]["name"] == "Engine"
    groups = asked(family, "communities")["communities"]
    assert sorted(name for names in groups for name in names) == ["Ada", "Babbage", "Engine", "London"]
    assert asked(family, "cycles") == {
        "is_cyclic": False,
        "cycle": [],
        "order": ["Ada", "Babbage", "Engine", "London"],
    }


@pytest.mark.parametrize("name", ["all.json", "all.graphml"])
def test_what_was_exported_can_be_imported_with_its_labels_and_where_it_came_from(
    family: Ostler, project: Path, name: str
) -> None:
    assert family("graph", "export", name, "--shared").exit_code == 0
    done = family("graph", "import", name, "--agent", "clerk", "--json")
    assert json.loads(done.stdout)["new"] == 4
    again = family("graph", "import", name, "--agent", "clerk", "--json")
    counts = {"entities": 1, "new": 0, "known": 4, "ended": 0, "superseded": 0, "contradicts": 0}
    assert json.loads(again.stdout) == counts
    memories = json.loads(family("memory", "list", "--agent", "clerk", "--json").stdout)
    (doubtful,) = [one for one in memories if one.get("labels")]
    assert doubtful["labels"] == ["untrusted"]
    assert doubtful["sources"] == ["tool.web", "import:family.json", f"import:{name}"]
    assert doubtful["made_of"][0].startswith("mem_")
    assert {one["writer"] for one in memories} == {"operator:local"}
    undone = family("memory", "rollback", "--source", f"import:{name}", "--yes")
    assert undone.exit_code == 0, undone.stderr
    assert json.loads(family("memory", "list", "--agent", "clerk", "--json").stdout) == []


def test_an_import_says_of_relations_that_were_taken_back_that_they_are_not_in_force(family: Ostler) -> None:
    assert family("memory", "rollback", "--source", "import:family.json", "--yes").exit_code == 0
    again = family("graph", "import", "family.json", "--shared")
    assert "4 of the known are not in force" in again.stderr
    assert "ostler memory restore" in again.stderr


def test_a_file_in_a_form_that_cannot_be_read_is_refused_with_those_that_can(family: Ostler) -> None:
    family("graph", "export", "all.dot", "--shared")
    refused = family("graph", "import", "all.dot", "--shared")
    assert refused.exit_code == Exit.USAGE
    assert "all.dot does not end in .json or .graphml." in refused.stderr


def test_the_form_of_a_file_is_that_of_its_name_unless_one_is_named(family: Ostler, project: Path) -> None:
    family("graph", "export", "all.dot", "--shared")
    assert (project / "all.dot").read_text().startswith("digraph")
    family("graph", "export", "all.svg", "--shared")
    assert (project / "all.svg").read_text().startswith("<svg")
    assert json.loads(family("graph", "export", "--shared").stdout)["directed"] is True
    refused = family("graph", "export", "all.xyz", "--shared")
    assert refused.exit_code == Exit.USAGE
    assert "--form json|graphml|dot|svg" in refused.stderr


def test_what_nobody_vouches_for_is_untrusted_to_the_last_relation(family: Ostler) -> None:
    done = family("graph", "import", "family.json", "--agent", "clerk", "--untrusted")
    assert done.exit_code == 0, done.stderr
    memories = json.loads(family("memory", "list", "--agent", "clerk", "--json").stdout)
    assert {one["labels"][0] for one in memories} == {"untrusted"}
    assert len(memories) == 4


def test_mistakes_are_told_with_what_to_do(family: Ostler, monkeypatch: pytest.MonkeyPatch) -> None:
    misspelt = family("graph", "show", "Babage", "--shared")
    assert (misspelt.exit_code, "Did you mean 'Babbage'?" in misspelt.stderr) == (Exit.CONFLICT, True)
    nobody = family("graph", "rank")
    assert (nobody.exit_code, "--shared" in nobody.stderr) == (Exit.USAGE, True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    absent = family("graph", "rank", "--by", "betweenness", "--shared")
    assert (absent.exit_code, "ostler[graph]" in absent.stderr) == (Exit.USAGE, True)
    assert family("graph", "show", "Babbage", "--shared").exit_code == 0
