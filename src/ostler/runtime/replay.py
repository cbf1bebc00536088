"""Replay: today's code against a recorded session, without the world.

The log holds every outcome, so each command can be built again from the event that it caused, decided again in the
state of that moment, and compared with what was recorded. No provider, tool or store is reachable from here.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ostler.domain.constraint.history import Past
from ostler.domain.growing import Growing
from ostler.domain.guard import Guard
from ostler.domain.identity import DEFAULT_TENANT, Principal
from ostler.domain.model import ModelRef, Reply
from ostler.domain.provenance import Provenance
from ostler.domain.session import commands as command
from ostler.domain.session import events as event
from ostler.domain.session.commands import SessionCommand
from ostler.domain.session.decide import decide
from ostler.domain.session.events import SESSION_CODEC, SessionEvent
from ostler.domain.session.evolve import evolve
from ostler.domain.session.fork import Fact
from ostler.domain.session.state import State
from ostler.domain.tool import Suspension, ToolOutcome, failed
from ostler.kernel.decider import fold
from ostler.kernel.errors import OstlerError, ReplayDiverged
from ostler.kernel.event import Record


class Replayed(msgspec.Struct, frozen=True):
    """`decisions` were made again; `adopted` events were only folded, for their cause is outside of the session."""

    state: State
    decisions: int
    adopted: int


def state_after(records: Sequence[Record]) -> State | None:
    """The state after these records of one session, from its first on; None if there are none."""
    return fold(evolve, _facts(records))


def replay(records: Sequence[Record]) -> Replayed:
    """Decide the whole session again. Raises `ReplayDiverged` at the first event that would come out otherwise."""
    facts = _facts(records)
    state: State | None = None
    place = decisions = adopted = 0
    while place < len(facts):
        at_us, cause = facts[place]
        expected = _decide_again(facts, place, state)
        if expected is None:
            state = evolve(state, cause, at_us)
            adopted, place = adopted + 1, place + 1
        else:
            state = fold(evolve, facts[place : place + len(expected)], state)
            decisions, place = decisions + 1, place + len(expected)
    if state is None:
        raise ReplayDiverged("There is nothing to replay.")
    return Replayed(state, decisions, adopted)


def _facts(records: Sequence[Record]) -> list[Fact]:
    return [(record.at_us, SESSION_CODEC.decode(record.data)) for record in records]


def snapshot(state: State) -> bytes:
    """The whole state as canonical JSON: equal states give equal bytes."""
    return msgspec.json.encode(state, enc_hook=_plain, order="deterministic")


def _plain(value: object) -> object:
    if isinstance(value, Growing):
        return list(value)
    if isinstance(value, Guard):
        return value.policies
    if isinstance(value, Provenance):
        return len(value)
    if isinstance(value, Past):
        return value.answers(0)
    raise TypeError(f"{type(value).__name__} has no place in a state")


def _decide_again(facts: Sequence[Fact], place: int, state: State | None) -> list[SessionEvent] | None:
    """The events that today's code decides, if they are the recorded ones; None where nothing was decided."""
    candidates = _commands_behind(facts, place, state)
    if not candidates:
        return None
    longest: list[SessionEvent] = []
    nearest: list[SessionEvent] = []
    for asked in candidates:
        for may_begin in (True, False):
            try:
                decided = decide(asked, state, may_begin=may_begin).events
            except OstlerError:
                continue
            kept = _until_fork(facts[place : place + len(decided)])
            if kept == decided[: len(kept)] and len(kept) > len(longest):
                longest = kept
            nearest = nearest or decided
    cause = facts[place][1]
    if not longest and isinstance(cause, event.AgentPaused) and cause.is_parked:
        return None  # the worker that parked it did not load it, so that nothing was decided
    if not longest:
        raise _divergence(_recorded(facts, place, len(nearest) + 1), nearest)
    return longest


def _until_fork(facts: Sequence[Fact]) -> list[SessionEvent]:
    """What was decided together, as far as a fork has taken it over."""
    events = [one for _, one in facts]
    forks = [place for place, one in enumerate(events) if isinstance(one, event.AgentForked)]
    return events[: forks[0]] if forks else events


def _recorded(facts: Sequence[Fact], place: int, count: int) -> list[SessionEvent]:
    return [one for _, one in facts[place : place + count]]


def _divergence(recorded: list[SessionEvent], decided: list[SessionEvent]) -> ReplayDiverged:
    place = next((n for n, (then, now) in enumerate(zip(recorded, decided, strict=False)) if then != now), len(decided))
    then = msgspec.to_builtins(recorded[place]) if place < len(recorded) else None
    now = msgspec.to_builtins(decided[place]) if place < len(decided) else None
    has, decides = then["type"] if then else "no further event", now["type"] if now else "nothing"
    return ReplayDiverged(
        f"The log has {has}, today's code decides {decides}.",
        hint="The recorded history stays valid; what changed since is how the next step would be chosen.",
        recorded=then,
        decided=now,
    )


def _commands_behind(facts: Sequence[Fact], place: int, state: State | None) -> list[SessionCommand]:
    """The commands that may have caused this event, likeliest first; none for what comes from another session."""
    at_us, cause = facts[place]
    # An end from outside comes right after the outcomes that it gives to every open call.
    recorded = _recorded(facts, place, len(state.open) + 1 if state is not None else 1)
    match cause:
        case event.AgentStarted():
            start = command.Start(
                at_us,
                cause.session,
                cause.agent,
                cause.model,
                cause.goal,
                cause.by,
                cause.workspace,
                cause.sandbox,
                cause.priority,
                cause.layers,
                cause.shadow,
                cause.inputs,
                cause.grant,
                cause.is_budgeted,
                cause.holds,
                cause.gate,
                images=cause.images,
                strategy=cause.strategy,
                candidates=cause.candidates,
            )
            return [start] if cause.origin is None else []
        case event.AgentForked() | event.ApprovalRejected():
            return []  # what comes from another session, or of somebody whose rights are not in the log
        case event.ModelCompleted():
            assert state is not None
            return [
                command.ReplyReceived(at_us, cause.call, reply, cause.redacted, cause.hooks, cause.shared_with)
                for reply in _replies_behind(cause, state.model)
            ]
        case event.CallExamined():
            return [command.Examined(at_us, cause)]
        case event.FitnessCompared():
            return [command.Compared(at_us, cause.call, cause.fitness)]
        case event.ToolCompleted():
            outcome = ToolOutcome(cause.ok, cause.output, cause.kind, cause.is_json, cause.blob, cause.size)
            returned = command.ToolReturned(
                at_us, cause.call, outcome, cause.redacted, cause.hooks, shared_with=cause.shared_with
            )
            return [returned, *_breaks(at_us, recorded)]
        case event.ToolSuspended():
            arguments = msgspec.json.decode(cause.asked.arguments, type=dict[str, Any])
            waiting = ToolOutcome(True, "", suspension=Suspension(cause.asked.name, arguments, cause.snapshot))
            return [command.ToolReturned(at_us, cause.call, waiting)]
        case event.ModelFailed():
            failure = command.ReplyFailed(
                at_us, cause.call, cause.code, cause.message, cause.status, partial=cause.partial, usage=cause.usage
            )
            later = msgspec.structs.replace(failure, retry_at_us=at_us)  # … if limits left no room for another attempt
            return [failure, later, *_breaks(at_us, recorded)]
        case event.CallRetried(limit=str(limit)):
            return [command.CapacityMissed(at_us, cause.call, limit)]
        case event.CallRetried():
            return [
                *_failures_behind(cause, at_us, state),
                command.CapacityFound(at_us, cause.call),
                command.WaitOver(at_us, cause.call),
                *_breaks(at_us, recorded),
            ]
        case _:
            tenant = DEFAULT_TENANT if state is None else state.by.tenant
            return [*_wishes_behind(cause, at_us, tenant), *_breaks(at_us, recorded)]


def _replies_behind(cause: event.ModelCompleted, model: ModelRef) -> list[Reply]:
    """The replies that may have been understood so. Of a text, only what counts is kept."""
    served = cause.model or model.name
    reply = Reply(cause.text, cause.calls, cause.stop, cause.usage, served, cause.reasoning, cause.fingerprint)
    if model.tools == "native":
        return [reply]
    texts = [cause.text, f"{cause.text}\nObservation:"]  # what a model makes up from there on is discarded
    return [*[msgspec.structs.replace(reply, text=text, calls=()) for text in texts], reply]


def _failures_behind(cause: event.CallRetried, at_us: int, state: State | None) -> list[SessionCommand]:
    """The failure after which a call was tried again. At once is not to be told from never, but for what follows."""
    code, _, message = cause.because.partition(": ")
    if any(call.id == cause.call and call.arguments is not None for call in (state.open if state else ())):
        outcome, later = failed("transient", message), cause.not_before_us
        return [command.ToolReturned(at_us, cause.call, outcome, retry_at_us=later, code=code)]
    failure = command.ReplyFailed(
        at_us, cause.call, code, message, cause.status, cause.not_before_us, cause.partial, cause.usage
    )
    moments = () if cause.choice is None else (None, at_us)
    return [failure, *(msgspec.structs.replace(failure, retry_at_us=moment) for moment in moments)]


def _wishes_behind(cause: SessionEvent, at_us: int, tenant: str) -> list[SessionCommand]:
    """What a person may have asked for. That they might was found out then; their roles are in the log."""
    match cause:
        case event.ApprovalGranted():
            digest = cause.digest if cause.arguments is None else None
            by = _person(cause.by, tenant, cause.roles)
            return [
                command.Approve(
                    at_us, cause.call, by, cause.reason, digest, cause.arguments, cause.lasts, cause.until_us
                )
            ]
        case event.ApprovalDenied():
            return [command.Deny(at_us, cause.call, _person(cause.by, tenant, cause.roles), cause.reason)]
        case event.ApprovalReturned():
            return [command.AskBack(at_us, cause.call, _person(cause.by, tenant, cause.roles), cause.question)]
        case event.PolicyMoved():
            by = _person(cause.by, tenant)
            return [command.MovePolicy(at_us, by, cause.policy, cause.layers, cause.shadow, cause.reason)]
        case event.InputReceived():
            return [command.Send(at_us, cause.text, _person(cause.by, tenant), cause.images)]
        case event.AgentPaused():
            return [command.Pause(at_us, _person(cause.by, tenant), cause.reason)]
        case event.AgentResumed():
            return [command.Resume(at_us, _person(cause.by, tenant))]
        case event.CancelRequested():
            return [command.Cancel(at_us, _person(cause.by, tenant), cause.reason)]
        case _:
            return []


def _person(name: str, tenant: str, roles: tuple[str, ...] = ()) -> Principal:
    return Principal(name, tenant=tenant, scopes=("*",), roles=roles)


def _breaks(at_us: int, recorded: list[SessionEvent]) -> list[SessionCommand]:
    """What may cause any event: the next step, the loss of a worker, and an end from outside."""
    found: list[SessionCommand] = [command.Proceed(at_us), command.TakeOver(at_us)]
    for later in recorded:
        if isinstance(later, event.AgentCancelled):
            found.append(command.Kill(at_us, Principal(later.by)))
        elif isinstance(later, event.AgentFailed):
            found.append(command.Fail(at_us, later.reason, later.message))
        elif isinstance(later, event.AgentForked | event.AgentCompleted):
            found.append(command.Fail(at_us, "", ""))  # the end itself did not go along, or had been decided before
    return found
