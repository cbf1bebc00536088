"""Sessions that are recorded once against a server answer again without one, and say honestly who answered."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler import Agent, Runtime, Session, tool
from ostler.app.models import Models
from ostler.app.settings import Settings, resolve
from ostler.domain.model import AskedCall, ModelRef, Reasoning, Reply, Usage
from ostler.domain.session.events import AgentFailed, AgentStarted
from ostler.kernel.errors import ConfigurationError
from ostler.testing import Scripted, calls, recorded
from ostler.testing.wire import WireServer
from tests.runtime.watching import events, only

THOUGHT = '{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAAAAABpIFhoaW5raW5n"}'


@tool(effect="read")
async def stock(sku: str) -> str:
    """How many pieces of a part are on the shelf."""
    return f"12 {sku}"


def clerk(model: Any = None) -> Agent:
    return Agent("clerk", "You answer questions about the stock.", tools=[stock], model=model)


def settings(folder: Path, **environment: str) -> Settings:
    return msgspec.structs.replace(resolve({"HOME": "/", **environment}, folder), store="memory:")


async def told(session: Session) -> list[Any]:
    """The events of a session without its ids, its times and who answered."""
    await session.result()
    text = msgspec.json.encode(await events(session)).decode().replace(session.id, "SESSION")
    return [
        {name: value for name, value in event.items() if not name.endswith(("_us", "digest"))}
        for event in msgspec.json.decode(re.sub(r'"kind":"(live|recorded)"', '"kind":"?"', text))
    ]


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with WireServer() as server:
        asked = AskedCall("call_a1", "stock", '{"sku":"A-17"}')
        thought = Reasoning("openai-responses", "gpt-x", THOUGHT)
        server.answers(
            Reply("Let me look.", (asked,), "tool_calls", Usage(30, 8), "gpt-x-0825", (thought,)),
            Reply("There are 12 A-17 left.", usage=Usage(50, 9), model="gpt-x-0825"),
        )
        yield server


async def test_a_session_runs_again_from_its_recording_with_no_server_and_no_key(
    server: WireServer, tmp_path: Path
) -> None:
    file = tmp_path / "stock.jsonl"
    with_key = {"OPENAI_API_KEY": "sk-test-0123456789abcdef", "OPENAI_BASE_URL": f"{server.url}/v1"}
    live = settings(tmp_path, OSTLER_RECORD=str(file), **with_key)
    async with Runtime.open(live, agents=[clerk("openai-responses:gpt-x")]) as runtime:
        first = await runtime.start(clerk("openai-responses:gpt-x"), "How many A-17 are left?")
        once = await told(first)
        assert (await only(first, AgentStarted)).model.kind == "live"
    assert len(server.asked) == 2
    assert THOUGHT.encode() in msgspec.json.encode(server.asked[1].body)

    replayed = settings(tmp_path, OSTLER_REPLAY=str(file), OPENAI_BASE_URL=with_key["OPENAI_BASE_URL"])
    async with Runtime.open(replayed, agents=[clerk("openai-responses:gpt-x")]) as runtime:
        second = await runtime.start(clerk("openai-responses:gpt-x"), "How many A-17 are left?")
        again = await told(second)
        started = await only(second, AgentStarted)
    assert len(server.asked) == 2
    assert again == once
    assert (started.model.kind, str(started.model)) == ("recorded", "openai:gpt-x (recorded)")
    assert "sk-test" not in file.read_text()


async def test_without_a_name_the_first_model_of_the_recording_answers(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    await session_of(clerk(recorded(file, live=Scripted("Twelve.", name="s"))))
    models = Models(settings(tmp_path, OSTLER_REPLAY=str(file), ANTHROPIC_API_KEY="sk-a"))
    with pytest.raises(ConfigurationError, match="scripted"):  # a script is no model that a name can reach
        await models.choose(None, "clerk")
    file.unlink()
    named = Scripted("Twelve.")
    named.ref = ModelRef("scripted", "anthropic", "claude-x")
    await session_of(clerk(recorded(file, live=named)))
    choice = await Models(settings(tmp_path, OSTLER_REPLAY=str(file))).choose(None, "clerk")
    assert (str(choice.model), choice.because) == ("anthropic:claude-x (recorded)", "OSTLER_REPLAY is set")


async def session_of(agent: Agent) -> Session:
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(agent, "How many A-17 are left?")
        await session.result()
        return session


async def test_a_model_object_records_once_and_answers_from_the_file_ever_after(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    script = Scripted(calls(("stock", {"sku": "A-17"})), "There are 12 A-17 left.", name="s")
    texts, kinds = [], []
    for live in (script, script, None):
        agent = clerk(recorded(file, live=live))
        async with Runtime.open("memory:", agents=[agent]) as runtime:
            session = await runtime.start(agent, "How many A-17 are left?")
            texts.append((await session.result()).text)
            kinds.append((await only(session, AgentStarted)).model.kind)
    assert texts == ["There are 12 A-17 left."] * 3
    assert kinds == ["scripted", "recorded", "recorded"]
    assert len(script.requests) == 2


async def test_a_name_is_recorded_with_the_keys_of_the_environment(
    server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    model = recorded("a.jsonl", live="openai:gpt-x")
    assert str(model.ref) == "openai:gpt-x (live)"
    agent = clerk(model)
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        assert (await (await runtime.start(agent, "How many?")).result()).text == "There are 12 A-17 left."
    assert server.asked[0].path == "/v1/chat/completions"
    assert str(recorded("a.jsonl").ref) == "openai:gpt-x (recorded)"


async def test_a_question_that_was_not_recorded_ends_the_session_with_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    await session_of(clerk(recorded(file, live=Scripted("Twelve."))))
    agent = clerk(recorded(file))
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(agent, "How many B-3 are left?")
        assert (await session.result()).status == "failed"
        failed = await only(session, AgentFailed)
    assert "message 1 (user), text: recorded 'How many A-17 are left?', here 'How many B-3" in str(failed)


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        (ModelRef("live", "openai", "gpt-x"), "OSTLER_REPLAY is set"),
        (ModelRef("recorded", "openai", "gpt-x"), "no recording at"),
    ],
)
def test_while_a_recording_answers_no_live_model_does(ref: ModelRef, says: str, tmp_path: Path) -> None:
    models = Models(settings(tmp_path, OSTLER_REPLAY="gone.jsonl", OPENAI_API_KEY="sk-o"))
    with pytest.raises(ConfigurationError, match=says):
        models.provider(ref)


def test_a_session_of_a_recording_goes_on_only_with_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Models(settings(tmp_path)).provider(ModelRef("recorded", "openai", "gpt-x"))
    assert "OSTLER_REPLAY" in refused.value.hint


def test_there_is_a_recording_or_somebody_to_record(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no recording"):
        recorded(tmp_path / "a.jsonl")
