"""What one run of a task learns, the next one knows: through the whole runtime, and in another process."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostler import Agent, MemorySettings, Runtime
from ostler.domain.memory.scope import Scope
from ostler.domain.model import ModelRequest, Reply, UserMessage
from ostler.testing import Scripted, calls
from tests.servers import fresh_schema

SETTINGS = MemorySettings(tools=("memory.remember", "memory.recall", "memory"))
LEARNT = "The tests need a PostgreSQL server on port 5433."
TASK = "Make the tests of the shop pass"


def knows(request: ModelRequest) -> bool:
    return any(LEARNT in message.text for message in request.messages if isinstance(message, UserMessage))


def work(request: ModelRequest) -> Reply | str:
    """Knows the way, or finds it out the hard way: with three steps more, and remembers it."""
    if knows(request):
        return "Done at once: I knew about the server."
    steps = len(request.messages) // 2
    if steps < 2:
        return calls(("memory", {"command": "view", "path": "/memories"}))
    if steps < 3:
        return calls(("memory.remember", {"text": LEARNT, "tags": ["tests"]}))
    return "Done in the end."


def apprentice() -> Agent:
    return Agent("apprentice", model=Scripted(*[work] * 9)).with_settings(SETTINGS)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        with fresh_schema() as url:
            yield url
    else:
        yield "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/ostler.db"


async def test_the_second_run_of_a_task_is_informed_by_the_first(store: str) -> None:
    agent = apprentice()
    async with Runtime.open(store, agents=[agent]) as runtime:
        answers, steps = [], []
        for _ in range(2):
            session = await runtime.start(agent, TASK)
            answers.append(str(await session.result(timeout_s=30)))
            steps.append((await session.state()).steps)
        assert answers == ["Done in the end.", "Done at once: I knew about the server."]
        assert steps == [4, 1]
        memories = await runtime.parts.memories()
        page = await memories.index.page([Scope("default", "apprentice", "local")])
        assert sorted(entry.memory.kind for entry in page) == ["episode", "episode", "fact"]
        assert runtime.troubles == []


async def test_an_agent_of_another_name_knows_nothing_of_it(store: str) -> None:
    agents = [apprentice(), Agent("other", model=Scripted(*[work] * 9, name="other")).with_settings(SETTINGS)]
    async with Runtime.open(store, agents=agents) as runtime:
        answers = [str(await (await runtime.start(agent, TASK)).result(timeout_s=30)) for agent in agents]
    assert answers == ["Done in the end."] * 2


PROGRAM = """
import asyncio
import sys

from ostler import Runtime
from tests.app.test_memory import TASK, apprentice


async def main() -> None:
    agent = apprentice()
    async with Runtime.open(sys.argv[1], agents=[agent]) as runtime:
        print(await (await runtime.start(agent, TASK)).result(timeout_s=30))


asyncio.run(main())
"""


def test_it_is_known_in_another_process_and_when_the_index_is_gone(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/ostler.db"

    def run() -> str:
        words = [sys.executable, "-c", PROGRAM, store]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run() == "Done in the end."
    assert run() == "Done at once: I knew about the server."
    for file in tmp_path.glob("ostler.db.memory*"):
        file.unlink()
    assert run() == "Done at once: I knew about the server."


async def test_the_index_is_a_file_beside_the_store_that_only_its_owner_can_read(tmp_path: Path) -> None:
    agent = apprentice()
    async with Runtime.open(tmp_path / "ostler.db", agents=[agent]) as runtime:
        await (await runtime.start(agent, TASK)).result(timeout_s=30)
    file = tmp_path / "ostler.db.memory"
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_process_that_remembers_nothing_makes_no_index(tmp_path: Path) -> None:
    agent = Agent("plain", model=Scripted("done"))
    async with Runtime.open(tmp_path / "ostler.db", agents=[agent]) as runtime:
        await (await runtime.start(agent, TASK)).result(timeout_s=30)
    assert list(tmp_path.glob("*.memory*")) == []
