"""A change of the model of an agent is recorded, once, by whoever starts the first session with the other one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostler import Agent, Principal, Runtime
from ostler.app.changes import Changes
from ostler.domain.changes import MODELS, ModelChanged
from ostler.domain.model import ModelSettings
from ostler.domain.registers import REGISTERS
from ostler.domain.session.commands import Start
from ostler.kernel.errors import DefinitionInvalid, StoreUnreachable
from ostler.kernel.event import StreamId, first_broken
from ostler.runtime.journal import Folded
from ostler.testing import Scripted
from tests.servers import fresh_schema


@pytest.fixture(params=["memory:", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory:" else f"sqlite:///{tmp_path}/ostler.db"


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that several processes can open."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ostler.db"
    else:
        with fresh_schema() as url:
            yield url


MODELS_BY_NAME = {name: Scripted("done", name=name) for name in ("a", "b")}


def agent(model: str, *, name: str = "clerk", settings: ModelSettings | None = None) -> Agent:
    return Agent(name, model=MODELS_BY_NAME[model]).with_settings(settings or ModelSettings())


async def changes(runtime: Runtime, name: str | None = None, tenant: str = "default") -> list[ModelChanged]:
    return [event for _, event in await runtime.parts.changes.all(tenant, name)]


def said(found: list[ModelChanged]) -> list[tuple[str, str]]:
    return [(event.before.model.name, event.after.model.name) for event in found]


async def test_a_session_with_another_model_than_the_one_before_it_records_the_change(store: str) -> None:
    async with Runtime.open(store, worker=False) as runtime:
        await runtime.start(agent("a"), "One.")
        await runtime.start(agent("a"), "Two.")
        assert await changes(runtime) == []
        third = await runtime.start(agent("b"), "Three.", by=Principal("ada"))
        await runtime.start(agent("b"), "Four.")
        (change,) = await changes(runtime)
        assert (change.agent, change.session, change.by) == ("clerk", third.id, "ada")
        await runtime.start(agent("a"), "Five.")
        assert said(await changes(runtime)) == [("a", "b"), ("b", "a")]


async def test_other_settings_of_the_same_model_are_a_change_too(store: str) -> None:
    async with Runtime.open(store, worker=False) as runtime:
        await runtime.start(agent("a"), "One.")
        await runtime.start(agent("a", settings=ModelSettings(temperature=0.7)), "Two.")
        (change,) = await changes(runtime)
        assert (change.before.settings.temperature, change.after.settings.temperature) == (None, 0.7)


async def test_where_nothing_changes_nothing_is_written(store: str) -> None:
    async with Runtime.open(store, worker=False) as runtime:
        for _ in range(3):
            await runtime.start(agent("a"), "Go on.")
        assert await runtime.parts.store.read(StreamId("default", MODELS)) == []
        assert await runtime.parts.store.streams("default", prefix=MODELS) == []


async def test_each_agent_and_each_tenant_has_models_of_its_own(store: str) -> None:
    async with Runtime.open(store, worker=False) as runtime:
        await runtime.start(agent("a"), "One.")
        await runtime.start(agent("b", name="other"), "Two.")
        await runtime.start(agent("b"), "Three.", by=Principal("bob", tenant="acme"))
        assert await changes(runtime) == []
        await runtime.start(agent("a", name="other"), "Four.")
        assert said(await changes(runtime, "other")) == [("b", "a")]
        assert await changes(runtime, "clerk") == await changes(runtime, tenant="acme") == []


class Unseeing(Changes):
    """As an Ostler that records no changes."""

    async def before(self, start: Start) -> None:
        """Look at nothing."""

    async def after(self, start: Start) -> None:
        """Look at nothing."""


async def test_in_a_store_of_before_the_newest_session_that_is_no_fork_says_what_drove_the_agent(store: str) -> None:
    async with Runtime.open(store) as runtime:
        seeing = runtime.parts.changes
        runtime.parts.changes = Unseeing(runtime.parts.store)
        first = await runtime.start(agent("a"), "One.")
        await first.result()
        await runtime.start(agent("b"), "Two.")
        await first.fork()
        runtime.parts.changes = seeing
        await runtime.start(agent("b"), "Three.")
        assert await changes(runtime) == []
        await runtime.start(agent("a"), "Four.")
        assert said(await changes(runtime)) == [("b", "a")]


async def test_many_that_start_at_once_with_another_model_record_one_change(shared: str) -> None:
    async with Runtime.open(shared, worker=False) as first, Runtime.open(shared, worker=False) as second:
        await first.start(agent("a"), "One.")
        starts = [runtime.start(agent("b"), "Go.") for runtime in (first, second) * 10]
        await asyncio.gather(*starts)
        assert said(await changes(first)) == [("a", "b")]


async def test_a_process_that_has_slept_through_a_change_knows_of_it(shared: str) -> None:
    async with Runtime.open(shared, worker=False) as first, Runtime.open(shared, worker=False) as second:
        await first.start(agent("a"), "One.")
        await second.start(agent("b"), "Two.")
        await first.start(agent("a"), "Three.")
        await second.start(agent("a"), "Four.")
        assert said(await changes(first)) == [("a", "b"), ("b", "a")]


async def test_the_first_two_sessions_ever_that_start_side_by_side_are_told_apart(shared: str) -> None:
    """Both found no session before them; whichever was created later has changed the model."""
    for number in range(5):
        name = f"clerk{number}"
        async with Runtime.open(shared, worker=False) as first, Runtime.open(shared, worker=False) as second:
            await asyncio.gather(first.start(agent("a", name=name), "1."), second.start(agent("b", name=name), "2."))
            assert sorted(said(await changes(first, name))[0]) == ["a", "b"]
            assert len(await changes(first, name)) == 1


async def test_the_first_sessions_of_an_agent_are_compared_once_they_are_there(shared: str) -> None:
    """As if both had looked before either was there."""
    async with Runtime.open(shared, worker=False) as runtime:
        changes_, parts = runtime.parts.changes, runtime.parts
        looked: list[str] = []

        class Late(Changes):
            async def before(self, start: object) -> None:
                looked.append("before")

        parts.changes = Late(parts.store)
        await runtime.start(agent("a"), "One.")
        parts.changes = Late(parts.store)
        second = await runtime.start(agent("b"), "Two.")
        assert looked == ["before", "before"]
        parts.changes = changes_
        (change,) = await changes(runtime)
        assert (change.before.model.name, change.session) == ("a", second.id)


async def test_a_start_that_fails_after_its_change_was_recorded_is_undone_by_the_next(store: str) -> None:
    async with Runtime.open(store, worker=False) as runtime:
        await runtime.start(agent("a"), "One.")
        journal = runtime.parts.journal
        start = journal.start

        async def fail(tenant: str, command: Start) -> Folded:
            raise StoreUnreachable("gone")

        journal.start = fail  # type: ignore[method-assign]
        with pytest.raises(StoreUnreachable):
            await runtime.start(agent("b"), "Two.")
        journal.start = start  # type: ignore[method-assign]
        await runtime.start(agent("a"), "Three.")
        assert said(await changes(runtime)) == [("a", "b"), ("b", "a")]


async def test_the_changes_of_a_tenant_are_proved_with_the_rest_of_its_log(tmp_path: Path) -> None:
    async with Runtime.open(f"sqlite:///{tmp_path}/ostler.db", worker=False) as runtime:
        await runtime.start(agent("a"), "One.")
        await runtime.start(agent("b"), "Two.")
        records = await runtime.parts.store.read(StreamId("default", MODELS))
        assert first_broken(records) is None
        (info,) = await runtime.parts.store.streams("default", prefix=MODELS)
        assert (info.standing.queue, info.standing.due_us) == (MODELS, None)
        assert MODELS in REGISTERS


@pytest.mark.parametrize("name", ["models", "trials"])
def test_no_agent_is_named_like_a_queue_of_ostlers_own(name: str) -> None:
    with pytest.raises(DefinitionInvalid, match="is not a name"):
        Agent(name, model=Scripted("done"))
