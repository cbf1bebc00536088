"""What a model thought stands in the log, and is given back to it with the results of its calls."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from ostler import Agent, Runtime, tool
from ostler.domain.model import AskedCall, ModelRef, ModelSettings, Reasoning, Reply
from ostler.domain.session.events import SESSION_CODEC, ModelCompleted
from ostler.kernel.event import StreamId
from ostler.runtime.replay import replay
from ostler.testing.wire import WireServer

THOUGHTS = {
    "anthropic": '{"type":"thinking","thinking":"They want stock: look.","signature":"EqQBCgIYAhIkYzQ0OTk4"}',
    "openai-chat": '{"reasoning_content":"They want stock: look."}',
}


@tool(effect="read")
async def look(sku: str) -> str:
    """How many are left."""
    return "4"


@pytest.mark.parametrize("dialect", THOUGHTS)
async def test_thoughts_stand_in_the_log_and_are_given_back(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path / 'ostler.db'}"
    call = AskedCall("a", "look", '{"sku":"A-17"}')
    thought = Reasoning(dialect, "model-1", THOUGHTS[dialect], "They want stock: look.")
    async with WireServer() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        server.answers(Reply("Look.", (call,), "tool_calls", reasoning=(thought,), fingerprint="fp_1"), Reply("Four."))
        provider, base_url = ("anthropic", None) if dialect == "anthropic" else ("openai", server.url)
        model = ModelRef("live", provider, "model-1", base_url=base_url, dialect=dialect)
        agent = Agent("clerk", tools=[look], model=model).with_settings(ModelSettings(reasoning="high"))
        async with asyncio.timeout(30), Runtime.open(store) as runtime:
            session = await runtime.start(agent, "How many A-17 are left?")
            assert (await session.result()).text == "Four."
            records = await runtime.parts.journal.records(StreamId("default", session.id))
    first, last = [asked.body for asked in server.asked]
    expected = msgspec.json.decode(THOUGHTS[dialect])
    said = last["messages"][1 if dialect == "anthropic" else 2]
    assert said["role"] == "assistant"
    assert expected in said["content"] if dialect == "anthropic" else expected.items() <= said.items()
    assert "high" in str(first.get("output_config") or first["reasoning_effort"])
    events = [SESSION_CODEC.decode(record.data) for record in records]
    replies = [event for event in events if isinstance(event, ModelCompleted)]
    assert replies[0].reasoning == (thought,)
    assert replies[0].fingerprint == ("" if dialect == "anthropic" else "fp_1")
    assert replay(records).state.end is not None
