"""Whether an agent behaves otherwise since something about it has changed: what is compared, and what is said of it.

The unit is the session: what happens within one hangs together, and counting each of its calls would find differences
where there are none.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Literal, NamedTuple, Protocol

import msgspec

from ostler.domain.changes import Driver, driver_of
from ostler.domain.effects import (
    Interval,
    detectable_dominance,
    detectable_share,
    dominance,
    holm,
    share_difference,
    wilson,
)
from ostler.domain.session.events import (
    AgentStarted,
    ApprovalDenied,
    CallRetried,
    ConstraintFailed,
    ModelCompleted,
    ModelRequested,
    SessionEvent,
)
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import Fact
from ostler.domain.session.state import State

LEVEL = 0.05
"""The chance that anything at all is found where nothing is different."""
SESSIONS_MIN = 5
"""With fewer on a side, nothing is compared."""
NO_TOOL = "(none)"
"""Stands for the tools of a session that has asked for none."""


class Version(NamedTuple):
    """Who answered when this model was asked: what the provider says that it served, and how that was configured."""

    asked: str
    served: str
    fingerprint: str = ""

    def __str__(self) -> str:
        return f"{self.served} ({self.fingerprint})" if self.fingerprint else self.served


class Summary(msgspec.Struct, frozen=True):
    """What one session that has ended came to.

    `versions` are those that answered, each with the moment of its first and last reply and their number; `tools`
    counts what the model asked for, whatever came of it; `step_us` is how long a reply took on average, None without
    one.
    """

    session: str
    agent: str
    started_us: int
    driver: Driver
    status: str
    reason: str
    steps: int = 0
    cost_microusd: int = 0
    refused: int = 0
    has_model_refused: bool = False
    defects: int = 0
    tools: Mapping[str, int] = {}
    step_us: float | None = None
    versions: Mapping[Version, tuple[int, int, int]] = {}


def summarise(facts: Sequence[Fact]) -> Summary | None:
    """The summary of a session; None of one that has not ended, and of a fork, whose past is not its own."""
    (started_us, started), *_ = facts
    assert isinstance(started, AgentStarted), "a session begins with its start"
    if started.origin is not None:
        return None
    seen = _Seen()
    state: State | None = None
    for at_us, event in facts:
        state = evolve(state, event, at_us)
        seen.see(event, at_us, state)
    assert state is not None
    if state.end is None:
        return None
    return Summary(
        session=state.session,
        agent=str(started.agent),
        started_us=started_us,
        driver=driver_of(started),
        status=state.end.status,
        reason=state.end.reason,
        steps=state.steps,
        cost_microusd=state.cost_microusd,
        refused=seen.refused,
        has_model_refused=seen.has_model_refused,
        defects=seen.defects,
        tools=dict(seen.tools),
        step_us=fmean(seen.spans_us) if seen.spans_us else None,
        versions=seen.versions,
    )


class _Seen:
    """What is counted while a session is folded."""

    def __init__(self) -> None:
        self.refused = self.defects = 0
        self.has_model_refused = False
        self.tools: Counter[str] = Counter()
        self.spans_us: list[int] = []
        self.versions: dict[Version, tuple[int, int, int]] = {}
        self._asked_us: dict[str, int] = {}

    def see(self, event: SessionEvent, at_us: int, state: State) -> None:
        if isinstance(event, ModelRequested):
            self._asked_us[event.call] = at_us
        elif isinstance(event, CallRetried) and event.call in self._asked_us:
            self._asked_us[event.call] = max(at_us, event.not_before_us or 0)
        elif isinstance(event, ConstraintFailed | ApprovalDenied):
            self.refused += 1
        elif isinstance(event, ModelCompleted):
            self._replied(event, at_us, state)

    def _replied(self, event: ModelCompleted, at_us: int, state: State) -> None:
        self.tools.update(call.name for call in event.calls)
        self.defects += event.defect is not None
        self.has_model_refused = self.has_model_refused or event.stop == "refusal"
        self.spans_us.append(max(0, at_us - self._asked_us.get(event.call, at_us)))
        asked = state.model.name
        version = Version(asked, event.model or asked, event.fingerprint)
        first_us, _, replies = self.versions.get(version, (at_us, 0, 0))
        self.versions[version] = (first_us, at_us, replies + 1)


class Tests(Protocol):
    """The tests of significance, each of which returns a p value, for both directions."""

    def shares(self, before: tuple[int, int], after: tuple[int, int]) -> float:
        """Two shares, each as successes and of how many: exact."""
        ...

    def ranks(self, before: Sequence[float], after: Sequence[float]) -> float:
        """Whether values of one side tend to be larger."""
        ...

    def mixes(self, before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> tuple[float, float]:
        """Whether two groups of distributions have another mean: by permuting whole rows between the groups.

        Also returns the total variation distance of the means that chance alone exceeds in one case of twenty.
        """
        ...


Unit = Literal["share", "count", "microusd", "microseconds", "distance"]


class Compared(msgspec.Struct, frozen=True):
    """One thing that was compared. `p` is adjusted for the number of them, `raw_p` is not.

    `before` and `after` are shares of the sessions, or medians over them; of `tools` both are left out. `effect` is the
    difference of the shares, Cliff's delta (how much more often a session afterwards has more than one before than
    less, -1 to 1), or the total variation distance (0 to 1), and lies between `low` and `high` with 95 % confidence;
    of a distance these are left out, and `high` is what chance alone exceeds once in twenty. `detectable` is the least
    effect that so many sessions would have shown with a power of 80 %; None if there is none, or it is not known.
    """

    name: str
    unit: Unit
    test: str
    effect: float
    low: float | None
    high: float | None
    p: float
    raw_p: float
    differs: bool
    before: float | None = None
    after: float | None = None
    detectable: float | None = None
    sessions: tuple[int, int] = (0, 0)


class Mix(msgspec.Struct, frozen=True):
    """The share of one tool in what a session asks for, on average, before and after."""

    tool: str
    before: float
    after: float


class Comparison(msgspec.Struct, frozen=True):
    """What so many sessions `before` and `after` a change show."""

    before: int
    after: int
    compared: tuple[Compared, ...]
    tools: tuple[Mix, ...]

    @property
    def differing(self) -> tuple[Compared, ...]:
        return tuple(one for one in self.compared if one.differs)


_SHARES: tuple[tuple[str, Callable[[Summary], bool]], ...] = (
    ("completed", lambda one: one.status == "completed"),
    ("a call was refused", lambda one: one.refused > 0),
    ("the model refused", lambda one: one.has_model_refused),
    ("an unusable reply", lambda one: one.defects > 0),
)
_MEASURES: tuple[tuple[str, Unit, Callable[[Summary], float | None]], ...] = (
    ("steps", "count", lambda one: one.steps),
    ("cost", "microusd", lambda one: one.cost_microusd),
    ("time per step", "microseconds", lambda one: one.step_us),
)
FAMILY = len(_SHARES) + len(_MEASURES) + 1
"""How many things are compared, the tools among them."""


def compare(before: Sequence[Summary], after: Sequence[Summary], tests: Tests) -> Comparison:
    """What is different afterwards, and how sure that is."""
    found = [_share(name, holds, before, after, tests) for name, holds in _SHARES]
    mix, tools = _mix(before, after, tests)
    found.append(mix)
    found += [_measure(name, unit, value, before, after, tests) for name, unit, value in _MEASURES]
    adjusted = holm([one.raw_p for one in found])
    compared = [msgspec.structs.replace(one, p=p, differs=p < LEVEL) for one, p in zip(found, adjusted, strict=True)]
    return Comparison(len(before), len(after), tuple(compared), tools)


def _share(
    name: str, holds: Callable[[Summary], bool], before: Sequence[Summary], after: Sequence[Summary], tests: Tests
) -> Compared:
    old, new = (sum(map(holds, before)), len(before)), (sum(map(holds, after)), len(after))
    share = wilson(*old).value
    return _compared(
        name,
        "share",
        "Fisher's exact test",
        share_difference(old, new),
        tests.shares(old, new),
        before=share,
        after=wilson(*new).value,
        detectable=detectable_share(share, old[1], new[1], LEVEL / FAMILY),
        sessions=(old[1], new[1]),
    )


def _measure(
    name: str,
    unit: Unit,
    value: Callable[[Summary], float | None],
    before: Sequence[Summary],
    after: Sequence[Summary],
    tests: Tests,
) -> Compared:
    old = [found for one in before if (found := value(one)) is not None]
    new = [found for one in after if (found := value(one)) is not None]
    test = "Mann-Whitney"
    if not old or not new:
        return _compared(name, unit, test, Interval(0.0, -1.0, 1.0), 1.0, sessions=(len(old), len(new)))
    return _compared(
        name,
        unit,
        test,
        dominance(old, new),
        tests.ranks(old, new),
        before=median(old),
        after=median(new),
        detectable=detectable_dominance(len(old), len(new), LEVEL / FAMILY),
        sessions=(len(old), len(new)),
    )


def _mix(before: Sequence[Summary], after: Sequence[Summary], tests: Tests) -> tuple[Compared, tuple[Mix, ...]]:
    """How the tools that sessions ask for are distributed: each session counts as much as any other."""
    names = sorted({name for one in (*before, *after) for name in one.tools or (NO_TOOL,)})
    old, new = [_row(one, names) for one in before], [_row(one, names) for one in after]
    means = [(fmean(row[place] for row in old), fmean(row[place] for row in new)) for place in range(len(names))]
    distance = sum(abs(one - other) for one, other in means) / 2
    p, by_chance = tests.mixes(old, new)
    mixes = (Mix(name, *mean) for name, mean in zip(names, means, strict=True))
    compared = Compared(
        name="tools",
        unit="distance",
        test="permutation of sessions",
        effect=distance,
        low=None,
        high=by_chance,
        p=p,
        raw_p=p,
        differs=False,
        sessions=(len(old), len(new)),
    )
    return compared, tuple(sorted(mixes, key=lambda mix: -(mix.before + mix.after)))


def _row(one: Summary, names: Sequence[str]) -> list[float]:
    total = sum(one.tools.values())
    return [one.tools.get(name, 0) / total if total else float(name == NO_TOOL) for name in names]


def _compared(
    name: str,
    unit: Unit,
    test: str,
    effect: Interval,
    p: float,
    *,
    before: float | None = None,
    after: float | None = None,
    detectable: float | None = None,
    sessions: tuple[int, int] = (0, 0),
) -> Compared:
    return Compared(
        name, unit, test, effect.value, effect.low, effect.high, p, p, False, before, after, detectable, sessions
    )
