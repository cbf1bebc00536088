"""An agent says what it remembers, in its file or in Python, and gets the tools for it."""

import pytest

from ostler import Agent, MemorySettings
from ostler.app.agents import parse
from ostler.domain.memory.tools import MEMORY_TOOLS
from ostler.kernel.errors import DefinitionInvalid

FILE = """
name = "clerk"
instructions = "Help."

[memory]
tools = ["memory.re*", "working.*"]
level = "agent"
writes = ["agent", "session"]
single = ["works_at"]

[tool."memory.remember"]
timeout_s = 5.0
"""
NAMES = ["memory.remember", "memory.recall", "memory.relate", "working.put", "working.get", "working.drop"]


def test_a_file_and_python_say_the_same() -> None:
    written, _ = parse(FILE, list(MEMORY_TOOLS), source="clerk.toml")
    settings = MemorySettings(
        tools=("memory.re*", "working.*"), level="agent", writes=("agent", "session"), single=("works_at",)
    )
    agent = Agent("clerk").with_settings(settings)
    assert agent.spec.memory == written.memory == settings
    assert [tool.name for tool in agent.spec.tools] == [tool.name for tool in written.tools] == NAMES


def test_what_a_file_says_of_a_tool_holds_for_tools_of_memory() -> None:
    written, _ = parse(FILE, list(MEMORY_TOOLS), source="clerk.toml")
    assert {tool.name: tool.timeout_s for tool in written.tools}["memory.remember"] == 5.0


def test_no_file_takes_from_a_tool_of_memory_what_labels_go_by() -> None:
    more = '[tool."memory.recall"]\nroles = ["reads_private"]\n[tool."memory.relate"]\nroles = []\n'
    written, _ = parse(FILE + more, list(MEMORY_TOOLS), source="clerk.toml")
    roles = {tool.name: tool.roles for tool in written.tools}
    assert roles["memory.recall"] == ("recalls", "reads_private")
    assert roles["memory.relate"] == ("remembers",)


def test_what_one_session_recalls_is_never_shared_with_another() -> None:
    with pytest.raises(DefinitionInvalid, match=r"memory\.recall\.share_s"):
        parse(FILE + '[tool."memory.recall"]\nshare_s = 60\n', list(MEMORY_TOOLS), source="clerk.toml")


def test_an_agent_without_memory_has_no_tool_of_it() -> None:
    written, _ = parse('name = "clerk"\ninstructions = "Help."\n', list(MEMORY_TOOLS), source="clerk.toml")
    assert (written.memory, written.tools) == (None, ())


def test_everything_that_an_agent_may_use_is_nothing_of_memory() -> None:
    with pytest.raises(DefinitionInvalid, match="no tool is called"):
        parse('name = "clerk"\ninstructions = "Help."\ntools = ["*"]\n', list(MEMORY_TOOLS), source="clerk.toml")


def test_a_tool_of_memory_is_named_where_memory_is() -> None:
    with pytest.raises(DefinitionInvalid, match="name it in `tools` of `\\[memory\\]`"):
        parse('name = "clerk"\ntools = ["memory.recall"]\n', list(MEMORY_TOOLS), source="clerk.toml")


def test_other_settings_replace_the_tools_of_the_first() -> None:
    agent = Agent("clerk").with_settings(MemorySettings(tools=("memory.*",)))
    other = agent.with_settings(MemorySettings(tools=("working.put",)))
    assert [tool.name for tool in other.spec.tools] == ["working.put"]
    assert len(agent.spec.tools) == 5


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (MemorySettings(tools=("memory.recal",)), "did you mean 'memory.recall'?"),
        (MemorySettings(level="agent"), "memory.level: 'agent' is not among `writes`"),
        (MemorySettings(recall_max=51), "memory.recall_max: must be from 0 to 50, got 51"),
        (MemorySettings(recall_tokens=-1), "memory.recall_tokens: must be from 0"),
        (MemorySettings(working_tokens=-1), "memory.working_tokens: must be from 0"),
        (MemorySettings(single=("",)), "memory.single: has an empty name"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: MemorySettings, problem: str) -> None:
    with pytest.raises(DefinitionInvalid) as refused:
        Agent("clerk").with_settings(settings)
    assert problem in str(refused.value)


def test_a_level_that_there_is_not_is_refused_with_its_place() -> None:
    with pytest.raises(DefinitionInvalid, match=r"memory\.level"):
        parse(FILE.replace('"agent"', '"everybody"', 1), list(MEMORY_TOOLS), source="clerk.toml")
