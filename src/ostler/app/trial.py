"""Trying another model on decisions of the past: what would it have said in the place of the one that was asked?

Each decision is a fork of its session, at the point before its model was asked, that ends with the first reply. So the
question goes through the gate and stands in the log like any other, and nothing that comes of it is performed.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from statistics import fmean, median
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.app.strategies import ModelObject
from ostler.domain.effects import Interval, wilson
from ostler.domain.identity import LOCAL_USER, Principal
from ostler.domain.model import AskedCall, ModelRef
from ostler.domain.registers import TRIALS
from ostler.domain.schema import parse_json
from ostler.domain.session.events import (
    AgentStarted,
    CallExamined,
    CallRetried,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
)
from ostler.domain.session.fork import Fact, places_of
from ostler.domain.session.state import State
from ostler.kernel.errors import (
    DefinitionInvalid,
    Erased,
    NotFound,
    OstlerError,
    StoreCorrupt,
    UnknownEvent,
    UsageError,
)
from ostler.kernel.event import StreamId

AT_ONCE = 8
"""Decisions that are put to the model at the same time."""
SESSIONS_MAX = 1_000
"""Sessions that are looked through for decisions, the newest."""
PAGE = 100

Said = Literal["same", "arguments", "tools", "answer", "call", "refusal", "unusable", "failed"]
SAID: tuple[Said, ...] = get_args(Said)
"""What the other model did: the same calls, or an answer as well; other arguments of the same tools; other tools; an
answer instead of a call, or a call instead of an answer; it refused; its reply cannot be used; or none came.
"""


class Made(msgspec.Struct, frozen=True):
    """A decision as one model made it: the calls that it asked for, or its answer, at what cost and in what time."""

    calls: tuple[AskedCall, ...]
    text: str
    cost_microusd: int
    span_us: int


class Tried(msgspec.Struct, frozen=True):
    """A decision: event `seq` of a session is where its model was asked; `trial` is the session in which the other was.

    `problem` says why there is no reply of the other one.
    """

    session: str
    seq: int
    trial: str
    said: Said
    then: Made
    now: Made | None
    problem: str = ""


class Trial(msgspec.Struct, frozen=True):
    """How far a model decides like the one before it.

    `agreement` is how often it asked for the same tools (or answered as well), `exact` how often with the same
    arguments, with 95 % confidence; every session counts once, for its decisions are alike. Answers are not compared
    with one another. Costs and times are those of the decisions that both have made, the times medians. `skipped` are
    sessions whose transcript is written for a model of another sort.
    """

    agent: str
    model: str
    sessions: int
    decisions: tuple[Tried, ...]
    counts: dict[Said, int]
    agreement: Interval
    exact: Interval
    cost_then_microusd: int
    cost_now_microusd: int
    span_then_us: float | None
    span_now_us: float | None
    skipped: int = 0


class _Decision(NamedTuple):
    stream: StreamId
    seq: int
    place: int
    made: Made


async def trial(
    runtime: Runtime,
    model: str | ModelRef | ModelObject,
    against: str,
    *,
    since_us: int = 0,
    limit: int = 20,
    by: Principal = LOCAL_USER,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Trial:
    """Put up to `limit` decisions of the agent `against` (coder, or coder@3) to another model.

    They are of the newest sessions since a moment: one of each, then a second of each, and so on. Raises `NotFound` if
    there are none, `ConfigurationError` if the model cannot be reached, `DefinitionInvalid` if sessions of the agent
    have a limit of cost and the price of the model is not known.
    """
    ref = await _reachable(runtime, model, against)
    chosen, skipped = await _choose(runtime, against, ref, since_us=since_us, limit=limit, tenant=by.tenant)
    if not chosen:
        other = f"{skipped} sessions are written for a model of another sort."
        raise NotFound(
            f"There is no decision of {against} to try {ref.provider}:{ref.name} on.",
            hint=other if skipped else "`ostler ps --all` lists sessions.",
        )
    await runtime.serve(TRIALS)
    places, done = asyncio.Semaphore(AT_ONCE), 0

    async def put(decision: _Decision) -> Tried:
        nonlocal done
        async with places:
            tried = await _put(runtime, decision, ref, by)
        done += 1
        progress(done, len(chosen))
        return tried

    progress(0, len(chosen))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(put(decision)) for decision in chosen]
    except* OstlerError as errors:
        raise _first(errors) from None
    return _summed_up(against, ref, [task.result() for task in tasks], skipped)


def _first(errors: ExceptionGroup[OstlerError]) -> OstlerError:
    (error, *_) = errors.exceptions
    return _first(error) if isinstance(error, ExceptionGroup) else error


async def _reachable(runtime: Runtime, model: str | ModelRef | ModelObject, against: str) -> ModelRef:
    models = runtime.parts.models
    if not isinstance(model, str | ModelRef):
        models.add(model.ref, model)
    choice = await models.choose(model, against.partition("@")[0])
    if choice.candidates:
        names = ", ".join(card.name for card in choice.candidates)
        raise UsageError(f"{model} is a strategy, and a trial asks one model.", hint=f"It chooses among: {names}.")
    models.provider(choice.model)
    return choice.model


async def _choose(
    runtime: Runtime, against: str, ref: ModelRef, *, since_us: int, limit: int, tenant: str
) -> tuple[list[_Decision], int]:
    """Decisions of as many sessions as there are, so that they have little to do with one another."""
    found: list[list[_Decision]] = []
    skipped = 0
    async for stream, facts in _sessions(runtime, against, tenant, since_us):
        started = facts[0][1]
        assert isinstance(started, AgentStarted)
        if started.model.tools != ref.tools:
            skipped += 1
            continue
        if started.agent.limits.cost_microusd is not None and ref.kind == "live" and ref.price is None:
            problem = f"cannot be kept in a trial: the price of {ref} is not known"
            raise DefinitionInvalid(str(started.agent), [("limits.cost_microusd", problem)])
        if decisions := _decisions(stream, facts):
            found.append(sorted(decisions, key=_shuffled))
        if len(found) == limit:
            break
    rounds = [decisions[number : number + 1] for number in range(limit) for decisions in found]
    return [decision for round_ in rounds for decision in round_][:limit], skipped


def _shuffled(decision: _Decision) -> bytes:
    """An order that has nothing to do with what was decided, and is the same every time."""
    return hashlib.sha256(f"{decision.stream.name}/{decision.seq}".encode()).digest()


async def _sessions(
    runtime: Runtime, against: str, tenant: str, since_us: int
) -> AsyncIterator[tuple[StreamId, list[Fact]]]:
    """The sessions of an agent that are no forks, newest first."""
    name, _, version = against.partition("@")
    parts, before, read = runtime.parts, None, 0
    while page := await parts.store.streams(tenant, prefix="ses_", queue=name, before=before, limit=PAGE):
        for info in page:
            if (read := read + 1) > SESSIONS_MAX:
                return
            try:
                facts = await parts.journal.facts(info.stream)
            except (Erased, StoreCorrupt, UnknownEvent, NotFound):
                continue
            at_us, started = facts[0]
            if at_us < since_us:
                return
            if isinstance(started, AgentStarted) and started.origin is None and version in ("", _version(started)):
                yield info.stream, facts
        before = page[-1].number


def _version(started: AgentStarted) -> str:
    return str(started.agent.version)


def _decisions(stream: StreamId, facts: Sequence[Fact]) -> list[_Decision]:
    """The usable replies of a session before which it can be forked. What was found out about the call is found out
    again.
    """
    places = set(places_of(facts))
    found, asked = [], {}
    for seq, (at_us, event) in enumerate(facts, 1):
        match event:
            case ModelRequested(purpose="turn"):
                asked[event.call] = seq, at_us
            case CallRetried(call=call) if call in asked:
                asked[call] = asked[call][0], max(at_us, event.not_before_us or 0)
            case ModelCompleted(defect=None, stop=stop) if stop != "refusal" and event.call in asked:
                number, asked_us = asked[event.call]
                place = number - 1
                while isinstance(facts[place - 1][1], CallExamined):
                    place -= 1
                if place in places:
                    found.append(_Decision(stream, number, place, _made(event, at_us - asked_us)))
            case _:
                pass
    return found


def _made(reply: ModelCompleted, span_us: int) -> Made:
    text = reply.text if reply.answer is None else reply.answer
    return Made(reply.calls, text, reply.cost_microusd, max(0, span_us))


async def _put(runtime: Runtime, decision: _Decision, ref: ModelRef, by: Principal) -> Tried:
    """Ask the model in a fork. A fork that is left alone would be gone on with, and cost money, some other day."""
    past = Session(runtime, decision.stream)
    try:
        fork = await past.fork(seq=decision.place, trial=ref, by=by)
    except DefinitionInvalid as error:
        return Tried(decision.stream.name, decision.seq, "", "failed", decision.made, None, error.message)
    try:
        problem = await _until_replied(fork, by)
    except BaseException:
        with suppress(OstlerError):
            await fork.kill(by=by)
        raise
    facts = await fork.facts()
    said, now = _outcome(facts[decision.place :], decision.made)
    if now is None and not problem:
        end = (await fork.state()).end
        failures = [event.message for _, event in facts if isinstance(event, ModelFailed)]
        problem = failures[-1] if failures else end.text if end is not None else ""
    return Tried(decision.stream.name, decision.seq, fork.id, said, decision.made, now, problem)


async def _until_replied(fork: Session, by: Principal) -> str:
    """Wait for the end; what only a person could move on is ended, and why is returned."""
    while True:
        position = await fork.head()
        state = await fork.state()
        if state.end is not None:
            return ""
        if problem := _needs_a_person(state):
            await fork.kill(by=by)
            return problem
        await fork.changed(after=position)


def _needs_a_person(state: State) -> str:
    if state.question is not None:
        return f"a person would have to approve it: {state.question.reason or state.question.rule}"
    return state.pause or ""


def _outcome(events: Sequence[Fact], then: Made) -> tuple[Said, Made | None]:
    """What came of a fork, from its `agent.forked` on."""
    asked_us = 0
    for at_us, event in events:
        if isinstance(event, ModelRequested):
            asked_us = at_us
        elif isinstance(event, CallRetried):
            asked_us = max(at_us, event.not_before_us or 0)
        elif isinstance(event, ModelCompleted):
            return compared(then, event), _made(event, at_us - asked_us)
    return "failed", None


def compared(then: Made, reply: ModelCompleted) -> Said:
    """How a reply differs from the decision that was made then."""
    if reply.stop == "refusal":
        return "refusal"
    if reply.defect is not None:
        return "unusable"
    if bool(then.calls) is not bool(reply.calls):
        return "call" if reply.calls else "answer"
    if [call.name for call in then.calls] != [call.name for call in reply.calls]:
        return "tools"
    is_same = [_arguments(call) for call in then.calls] == [_arguments(call) for call in reply.calls]
    return "same" if is_same else "arguments"


def _arguments(call: AskedCall) -> Any:
    """The arguments as values, or the text where they are none: how it was written does not count."""
    value, problem = parse_json(call.arguments)
    return value if problem is None else call.arguments


def _summed_up(against: str, ref: ModelRef, tried: Sequence[Tried], skipped: int) -> Trial:
    both = [(one.then, one.now) for one in tried if one.now is not None]
    said = [one.said for one in tried]
    counts = {word: said.count(word) for word in SAID if word in said}
    return Trial(
        agent=against,
        model=f"{ref.provider}:{ref.name}",
        sessions=len({one.session for one in tried}),
        decisions=tuple(tried),
        counts=counts,
        agreement=_rate(tried, ("same", "arguments")),
        exact=_rate(tried, ("same",)),
        cost_then_microusd=sum(then.cost_microusd for then, _ in both),
        cost_now_microusd=sum(now.cost_microusd for _, now in both),
        span_then_us=median(then.span_us for then, _ in both) if both else None,
        span_now_us=median(now.span_us for _, now in both) if both else None,
        skipped=skipped,
    )


def _rate(tried: Sequence[Tried], agreeing: Sequence[Said]) -> Interval:
    """How often they agree, of the decisions that the other one has made; each session is one observation."""
    of_sessions: dict[str, list[bool]] = {}
    for one in tried:
        if one.now is not None:
            of_sessions.setdefault(one.session, []).append(one.said in agreeing)
    shares = [fmean(agreed) for agreed in of_sessions.values()]
    return wilson(sum(shares), len(shares))
