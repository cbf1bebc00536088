"""The process that computes on graphs: it may die, hang or grow, and whoever asks next is answered."""

import asyncio
import os
import random
import signal
from array import array
from collections.abc import AsyncIterator

import pytest

from ostler.adapters.graph.native import NativeGraph
from ostler.adapters.graph.process import WAITING_MAX, ProcessEngine
from ostler.adapters.graph.worker import GRAPHS_MAX
from ostler.domain.knowledge.graph import Net
from ostler.kernel.errors import GraphTooLarge, GraphUnavailable, Shed


@pytest.fixture
async def engine() -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine()
    yield engine
    await engine.close()


def net(size: int, count: int, *, key: str = "net") -> Net:
    chance = random.Random(size)
    sources, targets = (array("q", (chance.randrange(size) for _ in range(count))) for _ in range(2))
    return Net(key, size, sources, targets, array("d", (chance.random() for _ in range(count))))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_every_question_is_answered_as_if_it_were_asked_here(engine: ProcessEngine) -> None:
    asked = net(40, 90)
    here = NativeGraph(asked)
    assert await engine.breadth_first(asked, 3) == here.breadth_first(3)
    assert await engine.depth_first(asked, 3) == here.depth_first(3)
    assert [await engine.shortest(asked, 3, goal) for goal in range(40)] == [
        here.shortest(3, goal) for goal in range(40)
    ]
    assert [await engine.cheapest(asked, 3, goal) for goal in range(9)] == [here.cheapest(3, goal) for goal in range(9)]
    assert await engine.closure(asked, pairs_max=2000) == here.closure(2000)
    assert await engine.betweenness(asked, exact_max=9, pivots=5, seed=2) == here.betweenness(9, 5, 2)
    assert await engine.communities(asked) == here.communities()
    assert await engine.components(asked) == here.components()
    assert await engine.cycle(asked) == here.cycle()
    assert await engine.topological(asked) == here.topological()
    with pytest.raises(GraphTooLarge, match="More than 3 pairs"):
        await engine.closure(asked, pairs_max=3)


async def test_one_process_keeps_the_graphs_that_were_asked_about_last(engine: ProcessEngine) -> None:
    nets = [net(5 + number, 9, key=str(number)) for number in range(GRAPHS_MAX + 2)]
    before = [await engine.breadth_first(one, 0) for one in nets]
    pid = engine.pid
    assert [await engine.breadth_first(one, 0) for one in nets] == before
    assert engine.pid == pid


async def test_a_process_that_has_died_is_replaced_and_the_graph_handed_over_again(engine: ProcessEngine) -> None:
    asked = net(30, 60)
    before = await engine.breadth_first(asked, 0)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    while is_alive(engine.pid):  # noqa: ASYNC110  (nothing tells of the end of a process but the process)
        await asyncio.sleep(0.001)
    assert await engine.breadth_first(asked, 0) == before


async def test_sessions_go_on_while_a_long_question_is_answered_and_giving_up_ends_the_process(
    engine: ProcessEngine,
) -> None:
    asked = net(3000, 30_000)
    await engine.breadth_first(asked, 0)
    pid = engine.pid
    assert pid is not None
    question = asyncio.create_task(engine.betweenness(asked, exact_max=10_000, pivots=1, seed=1))
    turns = 0
    while turns < 20:
        await asyncio.sleep(0.001)
        turns += 1
        assert not question.done()
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    assert not is_alive(pid)
    assert await engine.shortest(asked, 0, 0) == [0]


async def test_a_question_that_takes_too_long_is_ended_and_the_next_one_answered() -> None:
    engine, asked = ProcessEngine(timeout_s=1.0), net(3000, 60_000)
    try:
        with pytest.raises(GraphUnavailable, match="took longer than 1 s") as caught:
            await engine.betweenness(asked, exact_max=10_000, pivots=1, seed=1)
        assert caught.value.retryable
        assert engine.pid is None
        assert await engine.breadth_first(net(3, 0), 1) == [1]
    finally:
        await engine.close()


async def test_a_graph_that_needs_more_memory_than_there_may_be_is_refused_and_others_answered() -> None:
    engine, size = ProcessEngine(memory_bytes_max=400 * 1024**2), 2_000_000
    columns = array("q", bytes(8 * size)), array("q", range(size)), array("d", bytes(8 * size))
    try:
        with pytest.raises(GraphUnavailable, match="memory"):
            await engine.breadth_first(Net("large", size, *columns), 0)
        assert await engine.breadth_first(net(3, 0), 1) == [1]
    finally:
        await engine.close()


async def test_more_questions_than_may_wait_are_shed(engine: ProcessEngine) -> None:
    asked = net(10, 20)
    questions = [asyncio.create_task(engine.breadth_first(asked, 0)) for _ in range(WAITING_MAX + 1)]
    answers = await asyncio.gather(*questions, return_exceptions=True)
    assert [type(answer) for answer in answers] == [list] * WAITING_MAX + [Shed]


async def test_closing_ends_the_process_and_nothing_is_left_of_it(engine: ProcessEngine) -> None:
    await engine.breadth_first(net(3, 2), 0)
    pid = engine.pid
    assert pid is not None
    await engine.close()
    assert not is_alive(pid)
