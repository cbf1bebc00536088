"""How the fitness targets of a tenant stand, and how each has done, as it is shown."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.fitness import register_of
from ostler.domain.fitness.events import (
    FITNESS,
    FITNESS_CODEC,
    Course,
    FitnessEvent,
    FitnessFollowed,
    FitnessKept,
    FitnessLowered,
    FitnessMeasured,
    Standings,
)
from ostler.domain.fitness.target import Scored, Target, score
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import NotFound, OstlerError, UsageError
from ostler.kernel.event import StreamId, timestamp
from ostler.runtime.register import Register


class TargetView(msgspec.Struct, frozen=True):
    """A target as it stands. `passed` None is unknown; `values` are the last ones, oldest first; times are RFC 3339.

    `changed_by` is the session after a call of which it was last found to be another than before, `lowered_by` the call
    that lowered it last, as `SESSION/CALL`.
    """

    name: str
    goal: str
    value: float | None
    passed: bool | None
    unit: str = ""
    weight: float = 1.0
    on_fail: str = "record"
    agent: str = ""
    reason: str = ""
    measured: str = ""
    because: str = ""
    failing_since: str = ""
    changed_by: str = ""
    lowered_by: str = ""
    followed: tuple[str, ...] = ()
    values: tuple[float, ...] = ()


class Health(msgspec.Struct, frozen=True):
    """Every target, and the share of what is known that passes, by weight, from 0 to 100."""

    score: float | None
    targets: list[TargetView]

    @property
    def failing(self) -> list[TargetView]:
        return [target for target in self.targets if target.passed is False]


class Entry(msgspec.Struct, frozen=True):
    """Something that happened to a target, and when."""

    at: str
    what: str
    value: float | None = None
    passed: bool | None = None
    detail: str = ""
    session: str = ""
    call: str = ""


async def health(parts: Parts, *, tenant: str) -> Health:
    """How the targets of the project stand, by what was last measured."""
    _assert_any(parts)
    standings = await register_of(parts, tenant).refresh()
    return health_of(parts.targets, standings)


def health_of(targets: Sequence[Target], standings: Standings) -> Health:
    """How these targets stand."""
    views = [_view(target, standings.courses.get(target.name)) for target in targets]
    return Health(score(Scored(one.weight, one.passed) for one in views), views)


def _view(target: Target, course: Course | None) -> TargetView:
    view = TargetView(
        target.name, str(target.goal), None, None, target.unit, target.weight, target.on_fail, target.agent
    )
    if course is None:
        return msgspec.structs.replace(view, reason="it was never measured")
    found, lowered = course.last.found, course.lowered
    passed = None if found.value is None else target.goal.holds(found.value)
    return msgspec.structs.replace(
        view,
        value=found.value,
        passed=passed,
        reason=found.reason,
        measured=timestamp(course.last.at_us),
        because=course.last.because,
        failing_since=timestamp(course.failing_since_us) if course.failing_since_us is not None else "",
        changed_by=course.changed_by,
        lowered_by="" if lowered is None else f"{lowered.session}/{lowered.call}",
        followed=course.followed,
        values=tuple(value for _, value in course.values),
    )


class Unfit(msgspec.Struct, frozen=True):
    """A target of a tenant that fails since an RFC 3339 moment."""

    tenant: str
    name: str
    value: float
    goal: str
    since: str
    changed_by: str = ""


class Failing:
    """What fails in the tenants of a store, whoever declares it; looking again reads only what was written since."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._registers: dict[str, Register[FitnessEvent, Standings]] = {}

    async def look(self, tenants: Iterable[str]) -> list[Unfit]:
        """Those of these tenants."""
        found = []
        for tenant in dict.fromkeys(tenants):
            if tenant not in self._registers:
                self._registers[tenant] = register_of(self._parts, tenant)
            courses = (await self._registers[tenant].refresh()).courses
            for name, course in courses.items():
                last, since_us = course.last.found, course.failing_since_us
                if since_us is not None and last.value is not None:
                    since = timestamp(since_us)
                    found.append(Unfit(tenant, name, last.value, last.goal, since, course.changed_by))
        return found


async def measure(
    parts: Parts,
    names: Sequence[str],
    *,
    tenant: str,
    progress: Callable[[FitnessMeasured], None],
    trouble: Callable[[OstlerError], None],
) -> Health:
    """Measure these targets now (none: all), record it, and see to what follows. Raises `NotFound`."""
    _assert_any(parts)
    known = [target.name for target in parts.targets]
    for name in names:
        _assert_known(name, known)

    async def halted() -> None:
        """Workers see that in the log."""

    keeper = parts.fitness(trouble, halted)
    assert keeper is not None, "there are targets"
    await keeper.measure_now(tenant, names or known, progress=progress)
    return await health(parts, tenant=tenant)


async def history(parts: Parts, name: str, *, tenant: str, limit: int) -> list[Entry]:
    """What happened to a target, oldest first: the last so many entries. Raises `NotFound`."""
    found: list[Entry] = []
    after, names = 0, {target.name for target in parts.targets}
    while records := await parts.store.read(StreamId(tenant, FITNESS), after=after):
        for record in records:
            event = FITNESS_CODEC.decode(record.data)
            names |= _targets(event)
            if name in _targets(event):
                found.append(_entry(event, record.at_us))
        after = records[-1].seq
    if not found:
        _assert_known(name, sorted(names))
    return found[-limit:]


def _targets(event: FitnessEvent) -> set[str]:
    match event:
        case FitnessMeasured():
            return {event.found.target}
        case FitnessLowered():
            return {event.after.target}
        case FitnessFollowed():
            return {event.target}
        case FitnessKept():
            return set()


def _entry(event: FitnessEvent, at_us: int) -> Entry:
    match event:
        case FitnessMeasured(found=found):
            detail = found.reason or f"it should be {found.goal}"
            at = timestamp(event.at_us)
            return Entry(at, event.because, found.value, found.passed, detail, event.session, event.call)
        case FitnessLowered(after=found):
            detail = f"by {event.tool}: {event.before} before it"
            return Entry(timestamp(at_us), "lowered", found.value, found.passed, detail, event.session, event.call)
        case FitnessFollowed():
            whom = f"by {event.by}: {event.reason}" if event.by else event.agent
            return Entry(timestamp(event.at_us), event.what, detail=whom, session=event.session)
        case FitnessKept():
            raise AssertionError("this is about no target")


def _assert_any(parts: Parts) -> None:
    if not parts.targets:
        raise UsageError(
            "There are no fitness targets here.",
            hint="Declare them in fitness.yaml, next to ostler.toml; see docs/how-to/fitness.md.",
        )


def _assert_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = did_you_mean(name, known)
        hint = f"Did you mean {near!r}?" if near else f"There are: {', '.join(known)}."
        raise NotFound(f"There is no fitness target {name!r}.", hint=hint)
