"""What `fitness.yaml` may say, and what is said of its mistakes."""

from pathlib import Path

import pytest

from ostler import Agent, tool
from ostler.app.agents import parse
from ostler.app.fitness import read_targets, with_targets
from ostler.app.settings import resolve
from ostler.domain.fitness.target import Goal, Target
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid
from ostler.testing import Scripted

EVERYTHING = """
- name: works
  measure: success_rate
  target: ">= 0.9"
  window: 12h
  min_sessions: 20
  agent: clerk
  every: 5m
  at: [schedule, session_end]
  weight: 3
  tolerance: 0.05
  on_fail: veto
- name: site-up
  command: curl -sf 'http://localhost:8000/health check'
  target: "== 0"
  around: [deploy, "site.*"]
  timeout_s: 5
- name: dead-links
  command: [./links, --count]
  value: output
  unit: links
  target: "<= 3"
  around: [deploy]
  on_fail: ask
"""
MINUTE = 60_000_000


def read(folder: Path, text: str) -> tuple[Target, ...]:
    path = folder / "fitness.yaml"
    path.write_text(text)
    return read_targets(path)


def problems(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(DefinitionInvalid) as refused:
        read(folder, text)
    return dict(refused.value.problems)


def test_everything_that_a_target_can_say_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, EVERYTHING) == (
        Target(
            name="works",
            goal=Goal(">=", 0.9),
            measure="success_rate",
            agent="clerk",
            window_us=12 * 60 * MINUTE,
            min_sessions=20,
            weight=3,
            every_us=5 * MINUTE,
            at=("schedule", "session_end"),
            tolerance=0.05,
            on_fail="veto",
        ),
        Target(
            name="site-up",
            goal=Goal("==", 0),
            command=("curl", "-sf", "http://localhost:8000/health check"),
            timeout_s=5,
            at=("intervention",),
            around=("deploy", "site.*"),
        ),
        Target(
            name="dead-links",
            goal=Goal("<=", 3),
            command=("./links", "--count"),
            reads_output=True,
            unit="links",
            at=("intervention",),
            around=("deploy",),
            on_fail="ask",
        ),
    )


def test_an_empty_file_has_no_targets(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing yet\n[]") == ()


ONE = "- name: a\n  target: '== 0'\n  command: [x]\n"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("name: a", "", "is no list of targets"),
        ("- name: a\n  comand: [x]\n  target: '== 0'", "[0].comand (line 2)", "did you mean 'command'?"),
        ("- name: a\n  command: [x]", "[0].target (line 1)", "is missing"),
        ("- name: a\n  target: '== 0'", "[0].measure (line 1)", "write one of them"),
        (ONE + "  measure: success_rate", "[0].measure (line 4)", "write one of them"),
        ("- name: a\n  measure: succes_rate\n  target: '> 1'", "[0].measure (line 2)", "did you mean 'success_rate'?"),
        ("- name: a\n  command: [x]\n  target: '=> 1'", "[0].target (line 3)", "an operator and a number"),
        (ONE + "  on_fail: hlat", "[0].on_fail (line 4)", "did you mean 'halt'?"),
        (ONE + "  on_fail: halt", "[0].on_fail (line 4)", "never happens"),
        (ONE + "  at: [intervention]", "[0].around (line 1)", "is missing"),
        (ONE + "  at: [sometimes]", "[0].at[0] (line 4)", "is none that there is"),
        (ONE + "  at: intervention", "[0].at (line 4)", "expected `array`"),
        (ONE + "  at: [session_end]\n  around: [deploy]", "[0].around (line 5)", "add 'intervention' there"),
        (ONE + "  at: [schedule]", "[0].every (line 1)", "is missing"),
        (ONE + "  every: 1s", "[0].every (line 4)", "is too often: 10s at least"),
        (ONE + "  every: soon", "[0].every (line 4)", "is no time"),
        (ONE + "  window: 7d", "[0].window (line 4)", "is for measures only"),
        (ONE + "  value: number", "[0].value (line 4)", "'number' is none that there is"),
        (ONE + "  weight: -1", "[0].weight (line 4)", "not negative"),
        (ONE + "  weight: .nan", "[0].weight (line 4)", "not negative"),
        (ONE + "  tolerance: .inf", "[0].tolerance (line 4)", "not negative"),
        (ONE + "  timeout_s: 1000", "[0].timeout_s (line 4)", "300 at most"),
        (ONE + ONE, "[1].name (line 4)", "the name of another target"),
        (ONE + "  name: b", "[0].name (line 4)", "is there twice"),
        ("- name: A b\n  target: '== 0'\n  command: [x]", "[0].name (line 1)", "is no name"),
        ("- name: a\n  target: '== 0'\n  command: 'x \"y'", "[0].command (line 3)", "quotes do not match"),
        (
            "- name: a\n  measure: success_rate\n  tool: x\n  target: '> 0'",
            "[0].tool (line 3)",
            "is only for refusal_rate",
        ),
        ("- name: a\n  target: >= 0.9\n  command: [x]", "line 2", "must be in quotes"),
        ("- name: a\n\tb: c", "line 2", "is not valid YAML"),
        ("- name: 2024-13-45\n  target: '== 0'\n  command: [x]", "[0].name (line 1)", "put it in quotes"),
        (ONE + "  weight: !!float x", "", "could not convert string to float"),
        ("- &a [*a]", "[0][0][0][0][0] (line 1)", "is nested too deeply"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, place: str, said: str) -> None:
    found = problems(tmp_path, text)
    assert said in found.get(place, ""), found


def test_all_mistakes_are_told_at_once_and_nothing_is_used(tmp_path: Path) -> None:
    text = (
        "- name: a\n  target: 'x'\n  command: [x]\n  on_fail: y\n- name: b\n  target: '== 0'\n  command: []\n  every: z"
    )
    assert sorted(problems(tmp_path, text)) == [
        "[0].on_fail (line 4)",
        "[0].target (line 2)",
        "[1].every (line 8)",
        "[1].measure (line 5)",
    ]


def test_a_target_of_a_wrong_shape_does_not_hide_the_mistakes_of_others(tmp_path: Path) -> None:
    text = "- {name: a, command: [x], target: '== 0', every: 5}\n- {name: B, measure: succes, target: 'about 4'}\n"
    places = ["[0].every (line 1)", "[1].measure (line 2)", "[1].name (line 2)", "[1].target (line 2)"]
    assert sorted(problems(tmp_path, text)) == places


def test_the_file_is_the_one_that_the_project_names_or_the_one_that_is_there(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert resolve(environ, tmp_path).fitness is None
    (tmp_path / "ostler.toml").write_text("")
    assert resolve(environ, tmp_path).fitness is None
    (tmp_path / "fitness.yaml").write_text("[]")
    assert resolve(environ, tmp_path).fitness == tmp_path / "fitness.yaml"
    (tmp_path / "ostler.toml").write_text("fitness = 'health.yaml'")
    named = resolve(environ, tmp_path).fitness
    assert named == tmp_path / "health.yaml"
    with pytest.raises(ConfigurationError, match=r"health\.yaml cannot be read"):
        read_targets(named)


def test_tools_know_their_targets_by_globs_and_an_ask_without_any_is_about_all_but_reads(tmp_path: Path) -> None:
    @tool(name="site.publish")
    def publish() -> None:
        """Publish."""

    @tool(effect="read")
    def look() -> None:
        """Look."""

    targets = read(
        tmp_path,
        """
- {name: up, command: [x], target: "== 0", around: ["site.*"]}
- {name: calm, measure: failure_rate, target: "< 0.1", every: 1m, on_fail: ask}
- {name: others, command: [x], target: "== 0", around: ["*"], agent: another}
""",
    )
    spec = with_targets(Agent("clerk", tools=[publish, look], model=Scripted("done")).spec, targets)
    assert [(one.name, one.fitness) for one in spec.tools] == [("site.publish", ("up", "calm")), ("look", ())]


def test_a_tool_that_is_to_undo_another_one_has_to_be_there(tmp_path: Path) -> None:
    @tool(compensate="rolback")
    def deploy() -> None:
        """Deploy."""

    with pytest.raises(DefinitionInvalid, match=r"tool\.deploy\.compensate: 'rolback' is none of its other tools"):
        Agent("clerk", tools=[deploy], model=Scripted("done"))


def test_an_agent_file_says_what_undoes_any_of_its_tools() -> None:
    @tool
    def deploy() -> None:
        """Deploy."""

    @tool
    def rollback() -> None:
        """Roll back."""

    text = """
name = "deployer"
tools = ["deploy", "rollback"]

[tool.deploy]
compensate = "rollback"
"""
    spec, _ = parse(text, [deploy.spec, rollback.spec], source="x.toml")
    assert [one.compensate for one in spec.tools] == ["rollback", ""]
    with pytest.raises(DefinitionInvalid, match=r"tool\.deploy\.compensate: 'deploy' is none of its other tools"):
        parse(
            text.replace('compensate = "rollback"', 'compensate = "deploy"'), [deploy.spec, rollback.spec], source="x"
        )
