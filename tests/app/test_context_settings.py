"""An agent says what its model still sees when the window is full, in its file or in Python."""

import pytest

from ostler import Agent, ContextSettings
from ostler.app.agents import parse
from ostler.kernel.errors import DefinitionInvalid

FILE = """
name = "reader"

[context]
steps = ["summarise"]
above = 0.9
pinned = ["plan.*"]
"""


def test_a_file_and_python_say_the_same() -> None:
    written, _ = parse(FILE, [], source="reader.toml")
    agent = Agent("reader").with_settings(ContextSettings(("summarise",), above=0.9, pinned=("plan.*",)))
    assert agent.spec.context == written.context == ContextSettings(("summarise",), 0.9, 0.5, ("plan.*",), None)


def test_the_agent_that_it_was_made_from_stays_as_it_was() -> None:
    agent = Agent("reader")
    assert agent.with_settings(ContextSettings(window_tokens=9_000)).spec.context.window_tokens == 9_000
    assert agent.spec.context == ContextSettings()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (ContextSettings(above=0.5), "context: down_to and above must be shares"),
        (ContextSettings(above=1.0), "context: down_to and above must be shares"),
        (ContextSettings(down_to=0.0), "context: down_to and above must be shares"),
        (ContextSettings(window_tokens=-1), "context.window_tokens: must be positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: ContextSettings, problem: str) -> None:
    with pytest.raises(DefinitionInvalid) as refused:
        Agent("reader").with_settings(settings)
    assert problem in str(refused.value)


def test_a_step_that_nobody_knows_is_refused_with_its_place() -> None:
    with pytest.raises(DefinitionInvalid) as refused:
        parse(FILE.replace("summarise", "forget"), [], source="reader.toml")
    assert "context.steps[0]" in str(refused.value)
