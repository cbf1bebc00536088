"""The history checker: the invariants I1 to I11, each a function from what happened to what is wrong with it."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import msgspec

from ostler.domain.gate import digest_of, digest_of_arguments
from ostler.domain.session import events as event
from ostler.domain.session.events import SESSION_CODEC, SessionEvent
from ostler.domain.session.state import ENDED, due_us
from ostler.kernel.errors import OstlerError, StoreCorrupt
from ostler.kernel.event import StreamId, first_broken
from ostler.runtime.journal import QUARANTINED
from ostler.runtime.replay import replay, snapshot
from ostler.testing.sim.history import Commit, Effect, History, Tale

LATE_S = 8.0
"""How long after a cancel was recorded an effect that had been decided before may still begin, where nothing was wrong
with the process: a notice may come as late as the next poll, and a call is left behind two seconds after that."""
CANCELLED_WITHIN_S = 30.0
"""In fair weather a cancelled session has ended within this time."""

ASKED_S = 1.0
"""How long may pass between asking a reconcilable tool whether it has happened and performing it."""

_ENDS = (event.AgentCompleted, event.AgentFailed, event.AgentCancelled)
_BEGINS = (event.ModelRequested, event.ToolRequested, event.CallRetried, event.ApprovalRequested)
_RESULTS = (event.ToolCompleted, event.ModelCompleted, event.ModelFailed)
_ANSWERS = (event.ApprovalGranted, event.ApprovalDenied, event.ApprovalExpired)

Found = Iterator[str]


def judge(history: History) -> list[str]:
    """Every broken invariant, as `I5: ses_…/7: what is wrong`."""
    return [f"{name}: {found}" for name, check in INVARIANTS.items() for found in check(history)]


def acknowledged_is_kept(history: History) -> Found:
    """I1: what was acknowledged, to a worker or a person, is in the log as it was acknowledged."""
    kept = {tale.stream: tale.records for tale in history.tales}
    for stream, seq, digest in history.kept:
        records = kept.get(stream)
        if records is not None and (len(records) < seq or records[seq - 1].hash != digest):
            yield f"{stream.name}/{seq}: was acknowledged, and is not in the log"
    told = {tale.stream: tale.events for tale in history.tales}
    for wish in history.wishes:
        if wish.seq is None:
            continue
        events = told.get(wish.stream)
        if events is None:
            yield f"{wish.stream.name}: its {wish.kind} was acknowledged, and there is no such session"
        elif wish.events and events[wish.seq - len(wish.events) : wish.seq] != list(wish.events):
            yield f"{wish.stream.name}/{wish.seq}: the {wish.kind} that was acknowledged there is not in the log"


def one_writer_at_a_time(history: History) -> Found:
    """I2: events are numbered without a gap, and nobody writes under a claim that another has followed."""
    epochs: dict[StreamId, int] = defaultdict(int)
    versions: dict[StreamId, int] = defaultdict(int)
    for deed in history.deeds:
        current = epochs[deed.stream]
        if not isinstance(deed, Commit):
            if deed.epoch <= current:
                yield f"{deed.stream.name}: claim {deed.epoch} of {deed.worker} comes after claim {current}"
            epochs[deed.stream] = deed.epoch
            continue
        if deed.epoch is not None and deed.epoch != current:
            yield f"{deed.stream.name}/{deed.seq}: written under claim {deed.epoch} while {current} is the last"
        if deed.seq - deed.count != versions[deed.stream]:
            yield f"{deed.stream.name}/{deed.seq}: follows event {versions[deed.stream]}, with {deed.count} records"
        versions[deed.stream] = deed.seq
    for tale in history.tales:
        for place, record in enumerate(tale.records, 1):
            if record.seq != place:
                yield f"{tale.stream.name}/{record.seq}: stands at place {place}"


def calls_have_one_result(history: History) -> Found:
    """I3: a call has at most one result, and exactly one once its session has ended; a session has at most one end.

    What people decide too late is recorded after it, and is nothing else.
    """
    for tale in history.tales:
        name = tale.stream.name
        begun = Counter(one.call for one in tale.events if isinstance(one, event.ToolRequested | event.ModelRequested))
        results = Counter(one.call for one in tale.events if isinstance(one, _RESULTS))
        refused = Counter(one.call for one in tale.events if isinstance(one, event.ConstraintFailed))
        asked = Counter(one.call for one in tale.events if isinstance(one, event.ApprovalRequested))
        answers = Counter(one.call for one in tale.events if isinstance(one, _ANSWERS))
        ends = [seq for seq, one in enumerate(tale.events, 1) if isinstance(one, _ENDS)]
        late = tale.events[ends[0] :] if ends else []
        if len(ends) > 1 or not all(isinstance(one, event.ApprovalRejected) for one in late):
            yield f"{name}/{ends[0]}: the end, and yet it goes on"
        for call, count in begun.items():
            if count > 1 or results[call] > 1 or (ends and results[call] != 1):
                yield f"{name}: call {call} was begun {count} times and has {results[call]} results"
            if refused[call]:
                yield f"{name}: call {call} was begun and refused"
        for call in results.keys() - begun.keys():
            yield f"{name}: call {call} has a result and was never begun"
        for call, count in answers.items():
            if count > asked[call]:
                yield f"{name}: {count} answers to {asked[call]} questions about call {call}"


def effects_happen_as_often_as_promised(history: History) -> Found:
    """I4: a `once` tool acts at most once, another as often as the log has attempts; what went well has happened."""
    attempts = {tale.stream.name: _attempts(tale.events) for tale in history.tales}
    done = Counter(effect.key for effect in history.effects if effect.done_s is not None)
    kinds = {effect.key: effect for effect in history.effects}
    for key, effect in kinds.items():
        session, _, call = key.rpartition("/")
        allowed = 1 if effect.effect == "once" else attempts.get(session, Counter())[call]
        begun = sum(1 for one in history.effects if one.key == key)
        if begun > allowed:
            yield f"{session}: call {call} of {effect.tool} began {begun} times, {allowed} are accounted for"
    yield from _happened_again(history)
    for tale in history.tales:
        if _is_forked(tale):
            continue
        for seq, one in enumerate(tale.events, 1):
            if isinstance(one, event.ToolCompleted) and one.ok and done[f"{tale.stream.name}/{one.call}"] == 0:
                yield f"{tale.stream.name}/{seq}: call {one.call} went well, and nothing happened"


def _happened_again(history: History) -> Found:
    """A reconcilable tool is asked before it is tried again: it may only repeat what happened while it was asked."""
    done: dict[str, float] = {}
    for effect in history.effects:
        if effect.effect != "reconcilable":
            continue
        before_s = done.get(effect.key, math.inf)
        asked_s = effect.began_s - ASKED_S
        if before_s < asked_s and not _was_troubled(history, effect, asked_s):
            late_s = effect.began_s - before_s
            yield f"{effect.key}: attempt {effect.attempt} began {late_s:.1f} s after it had happened"
        if effect.done_s is not None:
            done[effect.key] = min(before_s, effect.done_s)


def _attempts(events: list[SessionEvent]) -> Counter[str]:
    return Counter(one.call for one in events if isinstance(one, event.ToolRequested | event.CallRetried))


def effects_were_allowed(history: History) -> Found:
    """I5: before a tool acts, its intent is in the log, with the same arguments, and approved where that is required.

    An approval that names a digest is recorded for arguments with this digest, or not at all.
    """
    tales = {tale.stream.name: tale for tale in history.tales}
    for effect in history.effects:
        session, _, call = effect.key.rpartition("/")
        if session in tales:
            yield from _was_allowed(tales[session], call, effect)
    for wish in history.wishes:
        for one in wish.events:
            if isinstance(one, event.ApprovalGranted) and wish.digest not in (None, one.digest):
                yield f"{wish.stream.name}/{wish.seq}: approved are other arguments than the person meant"
    for tale in history.tales:
        yield from _was_judged(tale)


def _was_allowed(tale: Tale, call: str, effect: Effect) -> Found:
    """An effect against what the log had when it began."""
    name = tale.stream.name
    known = [one for record, one in zip(tale.records, tale.events, strict=True) if record.position <= effect.head]
    intents = [one for one in known if isinstance(one, event.ToolRequested) and one.call == call]
    if not intents:
        yield f"{name}: call {call} of {effect.tool} began before its intent was in the log"
    elif digest_of_arguments(intents[0].arguments) != effect.digest:
        yield f"{name}: call {call} of {effect.tool} began with other arguments than the log has"
    elif effect.attempt > _attempts(known)[call]:
        yield f"{name}: attempt {effect.attempt} of call {call} began before it was in the log"


def _was_judged(tale: Tale) -> Found:
    """A call that had to be approved was, before it was begun, with the arguments that it was begun with."""
    asked: dict[str, str] = {}
    granted: dict[str, str] = {}
    if tale.state is None:
        return
    for seq, one in enumerate(tale.events, 1):
        if isinstance(one, event.ApprovalRequested):
            asked[one.call] = one.digest
            if digest_of(tale.state, one.tool, one.arguments) != one.digest:
                yield f"{tale.stream.name}/{seq}: the digest of the question is not that of its arguments"
        elif isinstance(one, event.ApprovalGranted):
            granted[one.call] = one.digest
        elif isinstance(one, event.ToolRequested):
            must = _must_be_approved(tale, one)
            if (must or one.call in asked) and granted.get(one.call) != digest_of(tale.state, one.tool, one.arguments):
                yield f"{tale.stream.name}/{seq}: call {one.call} of {one.tool} was begun without its approval"


def _must_be_approved(tale: Tale, begun: event.ToolRequested) -> bool:
    """Whether a rule of the simulated agents requires it; read from the rules anew, not through the gate."""
    if tale.state is None:
        return False
    amount = str(begun.arguments.get("amount"))
    for rule in tale.state.agent.policy.rules:
        if rule.effect == "require" and rule.tool == begun.tool:
            globs = rule.where.get("amount")
            excepted = rule.unless.get("amount", ())
            if (globs is None or amount in globs) and not any(amount.startswith(one.rstrip("*")) for one in excepted):
                return True
    return False


def memory_is_what_the_log_folds_to(history: History) -> Found:
    """I6: a session in a worker's memory is the fold of the log up to its event.

    There are no snapshots yet to compare with; what stands in for them is the session that a runner keeps.
    """
    yield from history.strayed
    for tale in history.tales:
        if tale.state is None:
            yield f"{tale.stream.name}: its events make no sense in their order"


def replay_gives_the_same(history: History) -> Found:
    """I7: today's code decides every session again, without the world, and comes to the same bytes."""
    for tale in history.tales:
        for record, one in zip(tale.records, tale.events, strict=True):
            if SESSION_CODEC.encode(one) != record.data:
                yield f"{tale.stream.name}/{record.seq}: encodes to other bytes than the log has"
        try:
            again = replay(tale.records)
        except (OstlerError, AssertionError) as error:
            yield f"{tale.stream.name}: {error!r} {getattr(error, 'facts', '')}"
            continue
        if tale.state is not None and snapshot(again.state) != snapshot(tale.state):
            yield f"{tale.stream.name}: replayed, it comes to another state"


def limits_are_kept(history: History) -> Found:
    """I8: what was settled is counted once and stays within the limits; a model is asked as often as the log says.

    Budgets are those of one session: there are no child sessions yet, and so no tree to add up.
    """
    asked = Counter(one.key for one in history.asked)
    charged = {(one.key, one.tokens) for one in history.asked}
    for tale in history.tales:
        yield from _limits_kept(tale)
        retried = {one.call: one.attempt for one in tale.events if isinstance(one, event.CallRetried)}
        for one in tale.events:
            if isinstance(one, event.ModelRequested):
                count, logged = asked[f"{tale.stream.name}/{one.call}"], retried.get(one.call, 1)
                if count > logged:
                    yield f"{tale.stream.name}: the model was asked {count} times for call {one.call}, logged {logged}"
            elif isinstance(one, event.ModelCompleted) and not _is_forked(tale):
                bill = (f"{tale.stream.name}/{one.call}", one.usage.total_tokens)
                if bill not in charged:
                    yield f"{tale.stream.name}: call {one.call} was settled with what nobody has charged"


def _is_forked(tale: Tale) -> bool:
    """Its past happened in another session."""
    return tale.state is not None and tale.state.origin is not None


def _limits_kept(tale: Tale) -> Found:
    if tale.state is None:
        return
    name, state, limits = tale.stream.name, tale.state, tale.state.agent.limits
    settled = [
        one for one in tale.events if isinstance(one, event.ModelCompleted | event.ModelFailed | event.CallRetried)
    ]
    steps = sum(1 for one in tale.events if isinstance(one, event.ModelRequested))
    tools = sum(1 for one in tale.events if isinstance(one, event.ToolRequested))
    tokens, cost = sum(one.usage.total_tokens for one in settled), sum(one.cost_microusd for one in settled)
    counted = (state.usage.total_tokens, state.cost_microusd)
    if counted != (tokens, cost):
        yield f"{name}: {counted} tokens and micro-dollars are counted, {(tokens, cost)} were settled"
    for what, used, limit in (
        ("steps", steps, limits.steps),
        ("tool calls", tools, limits.tool_calls),
        ("tokens", tokens, limits.tokens),
        ("micro-dollars", cost, limits.cost_microusd),
    ):
        if limit is not None and used > limit:
            yield f"{name}: used {used} {what} of {limit}"


def a_cancelled_session_stops(history: History) -> Found:
    """I9: after a cancel nothing begins, and the session ends.

    An intent from before the cancel may still be begun by a worker that has not heard of it: at once, or as late as it
    was frozen or cut off. There are no child sessions yet that would have to stop as well.
    """
    when = {(deed.stream, deed.seq): deed.at_s for deed in history.deeds if isinstance(deed, Commit)}
    for tale in history.tales:
        places = [place for place, one in enumerate(tale.events) if isinstance(one, event.CancelRequested)]
        if not places:
            continue
        place = places[0]
        for seq, one in enumerate(tale.events[place + 1 :], place + 2):
            if isinstance(one, _BEGINS):
                yield f"{tale.stream.name}/{seq}: begins call {one.call} after the cancel at {place + 1}"
        at_s = when.get((tale.stream, place + 1))
        if at_s is None:
            continue
        for effect in history.effects:
            is_its = effect.key.startswith(f"{tale.stream.name}/")
            if is_its and effect.began_s > at_s + LATE_S and not _was_troubled(history, effect, at_s):
                yield f"{tale.stream.name}: {effect.key} began {effect.began_s - at_s:.1f} s after the cancel"
        ended_s = max([at for (stream, _), at in when.items() if stream == tale.stream], default=at_s)
        if ended_s > max(at_s, history.healed_s) + CANCELLED_WITHIN_S + history.ahead_s:
            yield f"{tale.stream.name}: ended {ended_s - at_s:.1f} s after it was cancelled"


def _was_troubled(history: History, effect: Effect, since_s: float) -> bool:
    return any(
        name == effect.process and start <= effect.began_s and until >= since_s
        for name, start, until in history.troubled
    )


def nothing_is_orphaned(history: History) -> Found:
    """I10: every session has ended or waits for something with a name, and no worker has lost a part of itself."""
    yield from history.overdue
    yield from history.complaints
    for tale in history.tales:
        if tale.state is None or tale.stream in history.rotten:
            continue
        if tale.status == QUARANTINED:
            yield f"{tale.stream.name}: was put aside as damaged, and is not"
        elif tale.status != tale.state.status:
            yield f"{tale.stream.name}: is listed as {tale.status}, and is {tale.state.status}"
        if tale.status in ENDED and tale.due_us is not None:
            yield f"{tale.stream.name}: has {tale.status}, and is still due"
        if due_us(tale.state) is not None and tale.due_us is None:
            yield f"{tale.stream.name}: needs a worker, and is in no queue"


def damage_is_found(history: History) -> Found:
    """I11: the chain of every log holds, and where a record is not what was written, that is noticed and reported."""
    for tale in history.tales:
        broken = first_broken(tale.records)
        if broken is not None:
            yield f"{tale.stream.name}/{broken}: its hash does not fit"
        for seq in range(1, len(tale.records) + 1, 7):
            damaged = list(tale.records)
            damaged[seq - 1] = msgspec.structs.replace(damaged[seq - 1], at_us=damaged[seq - 1].at_us + 1)
            if first_broken(damaged) != seq:
                yield f"{tale.stream.name}/{seq}: could be altered without notice"
    told = history.reported | {wish.stream for wish in history.wishes if wish.error == StoreCorrupt.code}
    for stream in history.handed_out - told:
        yield f"{stream.name}/{history.rotten[stream]}: was read damaged, and nobody was told"


INVARIANTS: dict[str, Callable[[History], Found]] = {
    "I1": acknowledged_is_kept,
    "I2": one_writer_at_a_time,
    "I3": calls_have_one_result,
    "I4": effects_happen_as_often_as_promised,
    "I5": effects_were_allowed,
    "I6": memory_is_what_the_log_folds_to,
    "I7": replay_gives_the_same,
    "I8": limits_are_kept,
    "I9": a_cancelled_session_stops,
    "I10": nothing_is_orphaned,
    "I11": damage_is_found,
}
