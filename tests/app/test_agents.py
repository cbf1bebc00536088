"""Agents from Python and from files: what they become, and every problem that they have."""

from pathlib import Path

import pytest

from ostler import Agent, Limits, ModelSettings, Rule, tool
from ostler.app.agents import builtin, builtin_names, check, load, parse
from ostler.domain.agent import AgentSpec
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import DefinitionInvalid, NotFound

SCHEMA = {"type": "object", "properties": {}}
AT_HAND = [ToolSpec(name, name, SCHEMA) for name in ("files.read", "files.edit", "shell.run")]

WHOLE = """
name = "scribe"
version = 3
instructions = "Write it down."
tools = ["files.*", "shell.run", "files.read"]
model = "ollama:qwen3"
on_unknown = "pause"

[limits]
steps = 7
seconds = 60

[settings]
temperature = 0.5
stop = ["END"]

[policy]
name = "house"
default = "deny"

[[policy.rules]]
effect = "allow"
tool = "files.*"
where = { path = ["*.md"] }
"""


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(DefinitionInvalid) as invalid:
        parse(text, AT_HAND, source="scribe.toml")
    assert invalid.value.source == "scribe.toml"
    return invalid.value.problems


def test_a_whole_file_becomes_an_agent_with_the_tools_that_it_names_each_once() -> None:
    spec, model = parse(WHOLE, AT_HAND, source="scribe.toml")
    assert model == "ollama:qwen3"
    assert (str(spec), spec.instructions, spec.on_unknown) == ("scribe@3", "Write it down.", "pause")
    assert [each.name for each in spec.tools] == ["files.read", "files.edit", "shell.run"]
    assert spec.limits == Limits(steps=7, seconds=60)
    assert spec.settings == ModelSettings(temperature=0.5, stop=("END",))
    assert (spec.policy.name, spec.policy.default) == ("house", "deny")
    assert spec.policy.rules == (Rule("allow", "files.*", where={"path": ("*.md",)}),)


def test_every_problem_of_a_file_is_named_at_once_with_its_path() -> None:
    text = """
    nam = "scribe"
    tools = ["files.reed", "nothing.like.it", 3]
    version = "3"
    protocol = "guess"
    [limits]
    stpes = 3
    seconds = "long"
    [[policy.rules]]
    effect = "maybe"
    tol = "x"
    """
    found = dict(problems(text))
    assert found["nam"] == "is unknown (did you mean 'name'?)"
    assert found["name"] == "is missing"
    assert found["version"] == "expected `int`, got `str`"
    assert found["protocol"] == "'guess' is none of 'react'"
    assert found["limits.stpes"] == "is unknown (did you mean 'steps'?)"
    assert found["limits.seconds"] == "expected `float`, got `str`"
    assert found["policy.rules[0].effect"] == "'maybe' is none of 'allow', 'deny', 'require'"
    assert found["policy.rules[0].tol"] == "is unknown (did you mean 'tool'?)"
    assert found["policy.rules[0].tool"] == "is missing"
    assert found["tools[0]"] == "no tool is called 'files.reed' (did you mean 'files.read'?)"
    assert found["tools[1]"].endswith("(there are: files.read, files.edit, shell.run)")
    assert found["tools[2]"] == "expected `str`, got `int`"
    assert len(found) == len(problems(text)) == 12


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("name = ", "", "is not valid TOML"),
        ("name = 'Big Scribe'", "name", "'Big Scribe' is not a name"),
        ("name = ''", "name", "'' is not a name"),
        ("name = 'workers'", "name", "'workers' is not a name"),
        ("name = 'a'\n[limits]\nsteps = 0", "limits.steps", "must be positive, got 0"),
        ("name = 'a'\n[limits]\nseconds = -1.5", "limits.seconds", "must be positive, got -1.5"),
        (
            "name = 'a'\ntools = ['*']\n[[policy.rules]]\neffect = 'deny'\ntool = '*'\nwithin_s = 3",
            "policy.rules[0].within_s",
            "only a",
        ),
        ("name = 'a'\ntools = 'files.*'", "tools", "expected `array`, got `str`"),
        ("name = 'a'\npolicy = 3", "policy", "expected a table, got int"),
    ],
)
def test_what_types_cannot_say_is_said_as_well(text: str, path: str, problem: str) -> None:
    ((found_path, found),) = problems(text)
    assert (found_path, found[: len(problem)]) == (path, problem)


def test_a_file_that_is_not_there_or_is_no_text_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.toml cannot be read"):
        load(tmp_path / "none.toml", AT_HAND)
    with pytest.raises(NotFound, match="cannot be read"):
        load(tmp_path, AT_HAND)
    (tmp_path / "bytes.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(DefinitionInvalid, match="is not UTF-8 text"):
        load(tmp_path / "bytes.toml", AT_HAND)
    (tmp_path / "scribe.toml").write_text(WHOLE)
    assert load(tmp_path / "scribe.toml", AT_HAND) == parse(WHOLE, AT_HAND, source="scribe.toml")


def test_the_agents_that_come_along_have_no_problems() -> None:
    assert "coder" in builtin_names()
    for name in builtin_names():
        found = builtin(name, AT_HAND)
        assert found is not None
        assert found[0].name == name
    assert builtin("nobody", AT_HAND) is None


@tool(effect="read")
async def look(where: str) -> str:
    """Look somewhere."""
    return where


def test_an_agent_in_python_has_its_functions_as_tools() -> None:
    agent = Agent("scout@4", "Look around.", tools=[look], rules=[Rule("deny", "look")], limits=Limits(steps=2))
    assert str(agent.spec) == "scout@4"
    assert (agent.tools, agent.spec.tools) == ((look,), (look.spec,))
    assert (agent.spec.policy.name, agent.spec.policy.version, agent.spec.policy.default) == ("scout", 4, "allow")
    assert agent.spec.limits.steps == 2


def test_an_agent_in_python_is_judged_like_one_in_a_file() -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        Agent("Scout!", tools=[look, look], limits=Limits(defects=0), rules=[Rule("allow", "look", within_s=3)])
    assert [path for path, _ in invalid.value.problems] == [
        "name",
        "tools",
        "limits.defects",
        "policy.rules[0].within_s",
    ]


def test_a_tool_whose_schema_cannot_be_kept_is_refused_before_anything_starts() -> None:
    with pytest.raises(DefinitionInvalid):
        check(AgentSpec("scout", tools=(ToolSpec("look", "Look.", {"type": "objekt"}),)), "agent scout")


@tool
async def pay(amount: int) -> str:
    """Pay."""
    return "paid"


@pytest.mark.parametrize(
    ("rule", "path", "says"),
    [
        (Rule("deny", "pya"), "tool", "did you mean 'pay'?"),
        (Rule("deny", "fils.*"), "tool", "there are: pay"),
        (Rule("deny", "pay", where={"amount": ()}), "where.amount", "matches nothing"),
        (Rule("require", "pay", within_s=0), "within_s", "must be positive"),
    ],
)
def test_a_rule_that_can_never_match_is_refused_for_it_protects_nobody(rule: Rule, path: str, says: str) -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        Agent("clerk", tools=[pay], rules=[rule])
    ((found, problem),) = caught.value.problems
    assert found == f"policy.rules[0].{path}"
    assert says in problem


def test_what_is_no_tool_or_model_is_told_with_its_place() -> None:
    def plain() -> None: ...

    with pytest.raises(DefinitionInvalid, match=r"tools\[0\]: plain is a plain function: write @tool above it"):
        Agent("clerk", tools=[plain])  # type: ignore[list-item]
    with pytest.raises(DefinitionInvalid, match="model: 5 is neither"):
        Agent("clerk", model=5)  # type: ignore[arg-type]


def test_an_agent_of_code_is_read_like_a_file() -> None:
    agent = Agent("clerk", tools=[pay], rules=[Rule("require", "pay", within_s=60)], limits=Limits(seconds=5))
    assert (repr(agent.spec.policy.rules[0].within_s), repr(agent.spec.limits.seconds)) == ("60.0", "5.0")
    with pytest.raises(DefinitionInvalid) as caught:
        Agent("clerk", limits=Limits(steps="many", seconds="long"))  # type: ignore[arg-type]
    assert [path for path, _ in caught.value.problems] == ["limits.steps", "limits.seconds"]
