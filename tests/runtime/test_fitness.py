"""The keeper: who measures by schedule, how often, and what is written of it."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from ostler.adapters.store.memory import MemoryStore
from ostler.domain.fitness.events import FITNESS, FITNESS_CODEC, FitnessEvent, FitnessFollowed, FitnessMeasured
from ostler.domain.fitness.target import Goal, OnFail, Reading, Target
from ostler.kernel.errors import OstlerError, StoreBusy
from ostler.kernel.event import StreamId
from ostler.ports import Append
from ostler.runtime.fitness import AT_ONCE, KEEP_US, Keeper
from tests.domain.session.story import Story
from tests.runtime.crash import Clock

TENANT = "default"
S = 1_000_000


class Office:
    """A store that some workers share, and a system whose value they measure."""

    def __init__(self, *targets: Target) -> None:
        self.store: MemoryStore = MemoryStore()
        self.clock, self.targets = Clock(), targets
        self.value: Callable[[], float] = lambda: 0.0
        self.measured: list[tuple[str, str]] = []
        self.halted: list[tuple[str, str]] = []
        self.troubles: list[OstlerError] = []

    def keeper(self, name: str) -> Keeper:
        async def measure(target: Target, tenant: str) -> Reading:
            self.measured.append((name, target.name))
            return Reading(self.value())

        async def halt(tenant: str, agent: str, reason: str) -> None:
            self.halted.append((tenant, agent))

        return Keeper(self.store, self.clock, self.targets, measure, halt=halt, trouble=self.troubles.append)

    async def lives(self, name: str, for_s: float = 1e6) -> None:
        await self.store.beat(name, until_us=self.clock.us + int(for_s * S))

    async def events(self) -> list[FitnessEvent]:
        return [FITNESS_CODEC.decode(one.data) for one in await self.store.read(StreamId(TENANT, FITNESS), limit=9999)]


def target(name: str = "up", *, on_fail: OnFail = "record", agent: str = "", every_s: int = 60) -> Target:
    return Target(
        name=name,
        goal=Goal("==", 0.0),
        command=("check",),
        every_us=every_s * S,
        at=("schedule",),
        on_fail=on_fail,
        agent=agent,
    )


async def test_of_several_workers_one_measures_by_schedule_once_in_each_interval() -> None:
    office = Office(target())
    keepers = {name: office.keeper(name) for name in ("a", "b", "c")}
    for name in keepers:
        await office.lives(name)
    for _ in range(30):
        for name, keeper in keepers.items():
            await keeper._measure_due(name, TENANT)
        office.clock.us += 10 * S
    assert len(office.measured) == 5
    assert {name for name, _ in office.measured} == {"a"}


async def test_when_the_one_who_measures_is_gone_another_goes_on_where_it_stopped() -> None:
    office = Office(target())
    first, second = office.keeper("a"), office.keeper("b")
    await office.lives("a", 30)
    await office.lives("b")
    await first._measure_due("a", TENANT)
    await second._measure_due("b", TENANT)
    office.clock.us += 40 * S
    await second._measure_due("b", TENANT)
    assert office.measured == [("a", "up")]
    office.clock.us += 40 * S
    await second._measure_due("b", TENANT)
    assert office.measured == [("a", "up"), ("b", "up")]


async def test_a_target_that_stays_as_it_is_leaves_little_in_the_log() -> None:
    office = Office(target(every_s=10))
    keeper = office.keeper("a")
    await office.lives("a", 1e7)
    hours = 6
    for _ in range(hours * 360):
        await keeper._measure_due("a", TENANT)
        office.clock.us += 10 * S
    assert len(office.measured) >= hours * 350
    events = await office.events()
    assert sum(isinstance(event, FitnessMeasured) for event in events) <= hours + 1
    assert len(events) <= hours + 1 + hours * 3600 * S // (KEEP_US // 2) + 1


@pytest.mark.parametrize(("on_fail", "halted"), [("halt", [(TENANT, "clerk")]), ("warn", []), ("record", [])])
async def test_what_follows_follows_once_for_as_long_as_a_target_fails(
    on_fail: OnFail, halted: list[tuple[str, str]]
) -> None:
    office = Office(target(on_fail=on_fail, agent="clerk"))
    keeper = office.keeper("a")
    office.value = lambda: 1.0
    for _ in range(3):
        await keeper.measure_now(TENANT, ["up"])
    assert office.halted == halted
    assert len(office.troubles) == (on_fail != "record")
    office.value = lambda: 0.0
    await keeper.measure_now(TENANT, ["up"])
    office.value = lambda: 1.0
    await keeper.measure_now(TENANT, ["up"])
    assert office.halted == 2 * halted
    followed = [event for event in await office.events() if isinstance(event, FitnessFollowed)]
    assert len(followed) == (0 if on_fail == "record" else 2)


async def test_what_measuring_raises_makes_it_unknown_and_nothing_else() -> None:
    office = Office(target(on_fail="halt"))
    keeper = office.keeper("a")

    def broken() -> float:
        raise StoreBusy

    office.value = broken
    (found,) = await keeper.measure_now(TENANT, ["up"])
    assert (found.found.value, found.found.passed, found.found.is_fault) == (None, None, True)
    office.value = lambda: 1 // 0
    (found,) = await keeper.measure_now(TENANT, ["up"])
    assert found.found.reason.startswith("ZeroDivisionError")
    assert office.halted == []


async def test_calls_do_not_wait_for_what_is_measured_by_schedule_and_hangs() -> None:
    hanging = [target(f"slow-{number}") for number in range(AT_ONCE)]
    office = Office(*hanging, msgspec.structs.replace(target("up"), around=("deploy",), at=("intervention",)))
    begun = asyncio.Semaphore(0)

    async def measure(one: Target, tenant: str) -> Reading:
        if one.name.startswith("slow"):
            begun.release()
            await asyncio.Event().wait()
        return Reading(0.0)

    keeper = Keeper(office.store, office.clock, office.targets, measure, halt=_no_halt, trouble=office.troubles.append)
    background = asyncio.create_task(keeper.measure_now(TENANT, [one.name for one in hanging]))
    for _ in hanging:
        await begun.acquire()
    async with asyncio.timeout(5):
        (found,) = await keeper.before(TENANT, ["up"], "deploy", session="ses_1", call="1.1")
    background.cancel()
    await asyncio.gather(background, return_exceptions=True)
    assert found.value == 0.0


class Broken(MemoryStore):
    """A store in which nothing can be written of one tenant."""

    broken = "evil"

    async def append(self, append: Append) -> int:
        if append.stream.tenant == self.broken:
            raise StoreBusy("It cannot be written to.")
        return await super().append(append)


async def test_a_tenant_whose_results_cannot_be_written_keeps_nobody_elses_from_it() -> None:
    office = Office(msgspec.structs.replace(target("up", on_fail="halt"), around=("deploy",), at=("intervention",)))
    office.store, office.value = (store := Broken()), lambda: 1.0
    keeper = office.keeper("a")
    for tenant in ("evil", TENANT):
        await keeper.before(tenant, ["up"], "deploy", session="ses_1", call="1.1")
    with pytest.raises(StoreBusy):
        await keeper.flush()
    assert [type(one) for one in await office.events()] == [FitnessMeasured, FitnessFollowed]
    assert office.halted == [(TENANT, "")]
    store.broken = ""
    await keeper.flush()
    assert office.halted == [(TENANT, ""), ("evil", "")]


async def test_what_is_owed_at_the_end_of_a_session_is_measured_though_the_first_time_failed() -> None:
    office = Office(msgspec.structs.replace(target("up"), at=("session_end",)))
    office.store = store = Broken()
    store.broken = TENANT
    keeper = office.keeper("a")
    keeper.ended(Story().start().now)
    with pytest.raises(StoreBusy):
        await keeper.flush()
    store.broken = ""
    await keeper.flush()
    assert [type(one) for one in await office.events()] == [FitnessMeasured]


async def _no_halt(tenant: str, agent: str, reason: str) -> None:
    raise AssertionError("nothing fails")


async def test_results_of_two_tenants_are_written_apart() -> None:
    office = Office(target())
    keeper = office.keeper("a")
    await keeper.measure_now("default", ["up"])
    office.value = lambda: 1.0
    await keeper.measure_now("acme", ["up"])
    values = {name: keeper.register(name).state.courses["up"].last.found.value for name in ("default", "acme")}
    assert values == {"default": 0.0, "acme": 1.0}
