"""The loop under the simulation: virtual time, an order by seed, and processes that freeze and die."""

import asyncio
import random

import pytest

from ostler.testing.sim.loop import Killed, Process, Stuck, VirtualLoop, here, pass_time


@pytest.fixture
def loop():
    loop = VirtualLoop(random.Random(0))
    yield loop
    loop.close()


def test_time_passes_only_as_far_as_somebody_waits(loop: VirtualLoop) -> None:
    async def sleep() -> float:
        await pass_time(3_600)
        return loop.time()

    assert 3_600 <= loop.run(Process("one"), sleep()) < 3_601


def test_a_process_takes_its_callbacks_in_order_and_the_seed_mixes_the_processes(loop: VirtualLoop) -> None:
    said: list[tuple[str, int]] = []

    async def count(name: str) -> None:
        for number in range(20):
            asyncio.get_running_loop().call_soon(said.append, (name, number))
        await pass_time(1)

    async def all_of_them() -> None:
        await asyncio.gather(*[loop.spawn(Process(name), count(name)) for name in "ab"])

    loop.run(Process("main"), all_of_them())
    for name in "ab":
        assert [number for who, number in said if who == name] == list(range(20))
    names = "".join(name for name, _ in said)
    assert "aba" in names or "bab" in names


def test_code_knows_the_process_that_it_runs_in_and_tasks_inherit_it(loop: VirtualLoop) -> None:
    async def name() -> str:
        return here().name

    async def within() -> str:
        return await asyncio.create_task(name())

    assert loop.run(Process("a host"), within()) == "a host"


def test_a_frozen_process_has_no_turns_until_it_thaws(loop: VirtualLoop) -> None:
    worker = Process("worker")
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(loop.time())
            await pass_time(1)

    async def play() -> None:
        loop.spawn(worker, beat())
        await pass_time(2.5)
        loop.freeze(worker)
        await pass_time(10)
        assert len(beats) == 3
        loop.thaw(worker)
        await pass_time(2.5)

    loop.run(Process("main"), play())
    assert [int(beat) for beat in beats] == [0, 1, 2, 12, 13, 14]
    loop.end([worker])


def test_nothing_of_a_killed_process_happens_any_more(loop: VirtualLoop) -> None:
    worker = Process("worker")
    done: list[str] = []

    async def work() -> None:
        try:
            await pass_time(5)
            done.append("worked")
        finally:
            asyncio.get_running_loop().call_soon(done.append, "called back on the way out")

    async def play() -> None:
        loop.spawn(worker, work())
        await pass_time(1)
        loop.kill(worker)
        await worker.gone.wait()
        await pass_time(10)
        with pytest.raises(Killed):
            loop.spawn(worker, work())

    loop.run(Process("main"), play())
    assert done == []
    assert loop.complaints == []


def test_a_process_can_end_itself_in_the_middle_of_its_own_work(loop: VirtualLoop) -> None:
    worker = Process("worker")

    async def work() -> None:
        loop.kill(worker)
        raise Killed

    async def play() -> None:
        loop.spawn(worker, work())
        await worker.gone.wait()

    loop.run(Process("main"), play())
    assert not worker.is_alive


def test_a_run_in_which_nobody_has_anything_to_wait_for_is_stuck(loop: VirtualLoop) -> None:
    main = Process("main")
    with pytest.raises(Stuck, match="nobody"):
        loop.run(main, asyncio.Event().wait())
    loop.end([main])


def test_a_run_in_circles_is_stuck(loop: VirtualLoop) -> None:
    def circle() -> None:
        asyncio.get_running_loop().call_soon(circle)

    async def begin() -> None:
        circle()
        await asyncio.Event().wait()

    main = Process("main")
    with pytest.raises(Stuck, match="turns"):
        loop.run(main, begin())
    loop.end([main])


def test_an_error_in_a_callback_is_a_complaint(loop: VirtualLoop) -> None:
    def fail() -> None:
        raise ValueError("nobody looks")

    async def play() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await pass_time(1)

    loop.run(Process("main"), play())
    assert len(loop.complaints) == 1
    assert "nobody looks" in loop.complaints[0]
