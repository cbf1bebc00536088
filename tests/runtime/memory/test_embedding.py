"""Vectors are made in the background, by one embedder, whose failures are there to be seen and stop nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

import pytest

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.domain.memory.events import MemoryErased, MemoryEvent, MemoryOpened, MemoryRemembered
from ostler.domain.memory.memory import Memory, Source
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import EmbedderError, OstlerError, TextRefused
from ostler.ports.memory import Noted
from ostler.runtime.memory.embedding import PAUSE_MAX_S, QUERIES_KEPT, SAMPLE, Embedding

HERE, THERE = Scope("acme", "clerk", "ann"), Scope("acme", "clerk", "bob")
PATIENCE_S = 30.0


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def now_us(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += int(seconds * 1e6)


class Modelled:
    """An embedder that tells texts apart by their length; it fails, refuses and changes as tests want."""

    kind: Literal["semantic", "lexical"] = "semantic"

    def __init__(self, fingerprint: str = "one", dimensions: int = 2) -> None:
        self.fingerprint = fingerprint
        self.dimensions = dimensions
        self.asked: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self.refuses: Callable[[str], bool] = lambda text: False
        self.holds = asyncio.Event()
        self.holds.set()

    async def embed(
        self, texts: Sequence[str], *, purpose: Literal["document", "query"] = "document"
    ) -> list[Sequence[float]]:
        self.asked.append(tuple(texts))
        await self.holds.wait()
        if self.failure is not None:
            raise self.failure
        if any(self.refuses(text) for text in texts):
            raise TextRefused("too long for me")
        return [[0.6, 0.8, *[0.0] * (self.dimensions - 2)] for _ in texts]

    async def close(self) -> None: ...


class House:
    """An index with memories, and an embedding at work for it."""

    def __init__(self, index: SqliteIndex) -> None:
        self.index = index
        self.clock = SetClock()
        self.embedder = Modelled()
        self.troubles: list[OstlerError] = []
        self.embedding = self.with_embedder(self.embedder)

    def with_embedder(self, embedder: Modelled, *, pause_s: float = 1.0) -> Embedding:
        return Embedding(embedder, self.index, self.clock, trouble=self.troubles.append, pause_s=pause_s)

    async def add(self, scope: Scope, *texts: str, key: str = "") -> None:
        after = (await self.index.applied([scope])).get(scope, 0)
        events: list[MemoryEvent] = [] if after else [MemoryOpened(scope)]
        events += [
            MemoryRemembered(Memory(f"mem_{text[:40]}", "fact", text, Source("user:ann"), 1, key=key)) for text in texts
        ]
        await self.apply(scope, *events, after=after)

    async def apply(self, scope: Scope, *events: MemoryEvent, after: int) -> None:
        notes = [Noted(seq, seq, 1, event) for seq, event in enumerate(events, after + 1)]
        await self.index.apply(scope, notes, after=after)

    async def vectors(self, scope: Scope) -> dict[str, int]:
        return (await self.index.held(scope)).vectors

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110  nobody says when
                await asyncio.sleep(0)

    async def until_embedded(self, scope: Scope) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.index.unembedded([scope], "one"):  # noqa: ASYNC110  nobody says when
                await asyncio.sleep(0)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    index = await SqliteIndex.open(":memory:")
    yield House(index)
    await index.close()


async def test_what_has_no_vector_gets_one_the_newest_first_and_once(house: House) -> None:
    await house.add(HERE, "a", "b", "c")
    assert await house.embedding.fill([HERE], 2) == 2
    assert house.embedder.asked == [("c", "b")]
    assert await house.embedding.fill([HERE], 10) == 1
    assert await house.embedding.fill([HERE], 10) == 0
    assert await house.vectors(HERE) == {"one": 3}


async def test_only_the_scopes_that_are_named_are_looked_at(house: House) -> None:
    await house.add(HERE, "a")
    await house.add(THERE, "b")
    assert await house.embedding.fill([THERE], 10) == 1
    assert (await house.vectors(HERE), await house.vectors(THERE)) == ({}, {"one": 1})


async def test_a_key_says_what_a_text_is_about(house: House) -> None:
    await house.add(HERE, "blue", key="favourite colour")
    await house.embedding.fill([HERE])
    assert house.embedder.asked == [("favourite colour: blue",)]


async def test_another_embedder_makes_its_own_vectors_and_is_not_given_those_of_the_first(house: House) -> None:
    await house.add(HERE, "a", "b")
    await house.embedding.fill([HERE])
    other = house.with_embedder(Modelled("two", dimensions=3))
    vector = await other.query("a")
    assert vector is not None
    assert await house.index.vectors([HERE], other.fingerprint, vector) == []
    assert len(await house.index.words([HERE], ["a"])) == 1
    assert await other.fill([HERE]) == 2
    assert len(await house.index.vectors([HERE], other.fingerprint, vector)) == 2
    assert await house.vectors(HERE) == {"one": 2, "two": 2}


async def test_a_failure_is_seen_told_once_and_left_alone_for_longer_each_time(house: House) -> None:
    await house.add(HERE, "a")
    house.embedder.failure = EmbedderError("The model is gone.", hint="Start it.")
    pauses = []
    for _ in range(12):
        assert await house.embedding.fill([HERE]) == 0
        assert house.embedding.problem == "The model is gone."
        before = house.clock.now
        while house.embedding.is_resting:
            house.clock.move(0.5)
        pauses.append((house.clock.now - before) / 1e6)
    assert pauses == [min(2.0**number, PAUSE_MAX_S) for number in range(12)]
    assert house.embedding.since_us == 1_000_000
    (trouble,) = house.troubles
    assert trouble.message == "Memories get no vectors, and are found by their words only: The model is gone."
    assert trouble.hint == "Start it."


async def test_while_it_rests_nobody_is_asked(house: House) -> None:
    await house.add(HERE, "a")
    house.embedder.failure = EmbedderError("gone")
    assert await house.embedding.query("a") is None
    assert await house.embedding.query("b") is None
    assert await house.embedding.fill([HERE]) == 0
    assert await house.embedding.documents(["c"]) is None
    assert house.embedder.asked == [("a",)]


async def test_once_it_works_again_nothing_is_wrong_any_more_and_a_new_failure_is_told_again(house: House) -> None:
    await house.add(HERE, "a")
    house.embedder.failure = EmbedderError("gone")
    await house.embedding.fill([HERE])
    house.clock.move(1)
    house.embedder.failure = None
    assert await house.embedding.fill([HERE]) == 1
    assert (house.embedding.problem, house.embedding.since_us) == ("", None)
    house.embedder.failure = EmbedderError("gone")
    await house.embedding.query("x")
    assert len(house.troubles) == 2


async def test_a_server_that_says_how_long_to_wait_is_waited_for(house: House) -> None:
    house.embedder.failure = EmbedderError("slow down", retry_after_s=30.0)
    await house.embedding.query("x")
    house.clock.move(29)
    assert house.embedding.is_resting
    house.clock.move(1)
    assert not house.embedding.is_resting


async def test_vectors_of_another_length_under_the_same_name_are_a_problem_and_change_nothing(house: House) -> None:
    await house.add(HERE, "a")
    await house.embedding.fill([HERE])
    await house.add(HERE, "b")
    house.embedder.dimensions = 5
    assert await house.embedding.fill([HERE]) == 0
    assert house.embedding.problem
    assert await house.vectors(HERE) == {"one": 1}


async def test_one_text_that_is_refused_keeps_no_other_from_its_vector(house: House) -> None:
    await house.add(HERE, "a", "much too long", "b", "c", "d")
    house.embedder.refuses = lambda text: "long" in text
    assert await house.embedding.fill([HERE], 100) == 4
    assert house.embedding.problem == ""
    asked = len(house.embedder.asked)
    assert await house.embedding.fill([HERE], 100) == 0
    assert len(house.embedder.asked) == asked, "it is not asked for again"


async def test_an_embedder_that_refuses_whatever_it_is_given_is_a_problem(house: House) -> None:
    await house.add(HERE, "a")
    house.embedder.refuses = lambda text: True
    assert await house.embedding.fill([HERE]) == 0
    assert house.embedding.problem == "too long for me"
    assert house.embedder.asked[-1] == (SAMPLE,)


async def test_a_question_that_is_refused_has_no_vector_and_nothing_is_wrong(house: House) -> None:
    house.embedder.refuses = lambda text: True
    assert await house.embedding.query("much too long") is None
    assert house.embedding.problem == ""


async def test_the_same_question_is_embedded_once(house: House) -> None:
    first = await house.embedding.query("a")
    assert await house.embedding.query("a") == first
    assert house.embedder.asked == [("a",)]


async def test_of_many_questions_the_vectors_of_the_last_used_are_kept(house: House) -> None:
    for number in range(QUERIES_KEPT):
        await house.embedding.query(f"question {number}")
    await house.embedding.query("question 0")
    await house.embedding.query("one more")
    asked = len(house.embedder.asked)
    await house.embedding.query("question 0")
    assert len(house.embedder.asked) == asked
    await house.embedding.query("question 1")
    assert len(house.embedder.asked) == asked + 1


async def test_whoever_recalls_does_not_wait_for_ever(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostler.runtime.memory.embedding.QUERY_S", 0.01)
    house.embedder.holds.clear()
    assert await house.embedding.query("a") is None
    assert "No vector within" in house.embedding.problem


async def test_what_is_erased_while_its_vector_is_made_gets_none(house: House) -> None:
    await house.add(HERE, "a", "b")
    house.embedder.holds.clear()
    filling = asyncio.create_task(house.embedding.fill([HERE]))
    await house.until(lambda: bool(house.embedder.asked))
    await house.apply(HERE, MemoryErased(("mem_a",), "ann", "asked"), after=3)
    await house.index.erase(HERE, ["mem_a"])
    house.embedder.holds.set()
    await filling
    assert await house.vectors(HERE) == {"one": 1}


async def everywhere() -> Sequence[Scope]:
    return [HERE, THERE]


async def test_in_the_background_everything_gets_its_vector_and_what_is_new_soon(house: House) -> None:
    await house.add(HERE, *(f"memory {number}" for number in range(200)))
    await house.add(THERE, "b")
    running = asyncio.create_task(house.embedding.run(everywhere))
    await house.until(lambda: sum(map(len, house.embedder.asked)) == 201)
    await house.add(HERE, "new")
    house.embedding.kick(HERE)
    await house.until(lambda: ("new",) in house.embedder.asked)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert house.troubles == []


async def test_in_the_background_it_goes_on_after_a_failure_by_itself(house: House) -> None:
    await house.add(HERE, "a")
    house.embedder.failure = EmbedderError("gone")
    embedding = house.with_embedder(house.embedder, pause_s=0.01)
    running = asyncio.create_task(embedding.run(everywhere))
    await house.until(lambda: bool(embedding.problem))
    house.embedder.failure = None
    house.clock.move(10)
    await house.until_embedded(HERE)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert embedding.problem == ""


async def test_a_defect_is_told_and_ends_nothing(house: House) -> None:
    await house.add(HERE, "a")
    house.embedder.failure = ValueError("a slip")
    running = asyncio.create_task(house.embedding.run(everywhere))
    await house.until(lambda: bool(house.troubles))
    house.embedder.failure = None
    house.embedding.kick()
    await house.until_embedded(HERE)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "A defect of Ostler: ValueError: a slip" in house.troubles[0].message
