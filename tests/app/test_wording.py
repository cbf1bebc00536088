"""Words for merged memories: found by an ordinary session, and only if there is an agent for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ostler import Runtime
from ostler.app.erasure import plan_erasure
from ostler.app.memory_settings import ConsolidationTable, MemoryTable
from ostler.app.providers import Keys, ProviderTable, ProviderTarget
from ostler.app.settings import Settings
from ostler.domain.memory.erasure import Which
from ostler.domain.memory.memory import Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.domain.model import Reply
from ostler.kernel.errors import OstlerError
from ostler.testing.wire import Answer, Asked, WireServer, stream
from ostler.testing.wire_embeddings import json_answer

HERE = Scope("default", "clerk", "ann")
TWICE = ("Ann likes tea with milk", "tea is what Ann drinks, with milk")
EDITOR = "name = 'editor'\nmodel = 'house:m'\ninstructions = 'You edit.'\n"


class House:
    """A project with an agent that words memories, and a server of models for which all texts mean the same."""

    def __init__(self, folder: Path, server: WireServer) -> None:
        self.folder = folder
        self.server = server
        self.words = '{"text": "Ann drinks tea with milk"}'
        self.goals: list[str] = []
        self.troubles: list[OstlerError] = []
        server.otherwise = self.answer
        (folder / "agents").mkdir()
        self.agent(EDITOR)

    def agent(self, text: str) -> None:
        (self.folder / "agents" / "editor.toml").write_text(text)

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/api/embed":
            return json_answer({"embeddings": [[1.0, 0.0] for _ in asked.body["input"]]})
        self.goals.append(str(asked.body["messages"][-1]["content"]))
        return Answer(chunks=stream(Reply(self.words, model="m"), asked))

    async def consolidated(self, *texts: str, agent: str | None = "editor", **fields: Any) -> list[str]:
        """What is remembered once these facts were consolidated."""
        table = MemoryTable(embedder="ollama:m", consolidation=ConsolidationTable(after=len(texts), agent=agent))
        settings = Settings(
            f"sqlite:///{self.folder / 'ostler.db'}",
            self.folder,
            agents=self.folder / "agents",
            memory=table,
            keys=Keys(ollama_host=self.server.url),
            providers={"house": ProviderTarget(ProviderTable(f"{self.server.url}/v1"))},
        )
        async with Runtime.open(settings, worker=False) as runtime:
            memories = await runtime.parts.memories()
            for text in texts:
                wish = Wish("fact", text, Source("agent:clerk", f"ses_{text[:3]}/1"), **fields)
                await memories.remember(HERE, wish, key=text)
            assert memories.embedding is not None
            await memories.embedding.fill([HERE], 100)
        async with Runtime.open(settings) as runtime:
            runtime.on_trouble = lambda name, error: self.troubles.append(error)
            memories = await runtime.parts.memories()
            async with asyncio.timeout(30):
                while len(found := await memories.index.page([HERE])) > 1:  # noqa: ASYNC110  nobody says when
                    await asyncio.sleep(0.001)
            self.sessions = await runtime.sessions()
            self.source = found[0].memory.source
            return [entry.memory.text for entry in found]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with WireServer() as server:
        yield House(tmp_path, server)


async def test_a_session_words_what_is_merged_for_what_it_means(house: House) -> None:
    assert await house.consolidated(*TWICE) == ["Ann drinks tea with milk"]
    (session,) = house.sessions
    assert (session.agent, session.status) == ("editor@1", "completed")
    assert house.source.session == session.id
    assert all(text in house.goals[0] for text in TWICE)


async def test_without_an_agent_no_model_is_asked(house: House) -> None:
    assert await house.consolidated(*TWICE, agent=None) == [TWICE[1]]
    assert (house.goals, house.sessions) == ([], [])


async def test_untrusted_text_is_shown_to_no_model(house: House) -> None:
    assert await house.consolidated(*TWICE, labels=("untrusted",)) == [TWICE[1]]
    assert house.goals == []


async def test_words_that_say_something_else_are_not_taken(house: House) -> None:
    house.words = '{"text": "Ann drinks 3 cups"}'
    assert await house.consolidated(*TWICE) == [TWICE[1]]


async def test_an_agent_that_has_tools_is_not_asked_and_the_operator_is_told(house: House) -> None:
    house.agent(EDITOR + "tools = ['files.read']\n")
    assert await house.consolidated(*TWICE) == [TWICE[1]]
    assert house.goals == []
    assert "has tools or memory" in house.troubles[0].message


async def test_a_session_that_fails_keeps_nothing_from_being_merged(house: House) -> None:
    house.words = "no JSON"
    assert await house.consolidated(*TWICE) == [TWICE[1]]
    assert "found no words" in house.troubles[0].message


async def test_a_session_is_erased_with_what_it_was_to_word_though_its_words_were_not_taken(house: House) -> None:
    house.words = '{"text": "Ann drinks 9 cups of tea with milk"}'
    assert await house.consolidated(*TWICE) == [TWICE[1]]
    (session,) = house.sessions
    async with Runtime.open(f"sqlite:///{house.folder / 'ostler.db'}", worker=False) as runtime:
        found = await plan_erasure(runtime.parts, HERE.tenant, which=Which(scope=HERE))
        assert session.id in found.sessions
