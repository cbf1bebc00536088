"""Why: one decision, or the state a session is in, explained from its log."""

from collections.abc import Sequence
from itertools import groupby

import msgspec

from ostler.domain.session.events import AgentPaused, CancelRequested
from ostler.domain.session.fork import Fact
from ostler.domain.session.state import ENDED, State
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import NotFound
from ostler.kernel.event import timestamp
from ostler.views.calls import CallView, calls


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `question` that is answered and the answer, line by line; `events` are the numbers it rests on."""

    session: str
    question: str
    answer: dict[str, str]
    call: CallView | None = None
    events: list[int] = []


def why_state(state: State, facts: Sequence[Fact]) -> Explanation:
    """Why the session is in the state that it is in."""
    found = calls(facts)
    lines: list[tuple[str, str]] = [("status", state.status)]
    events: list[int] = []
    if state.end is not None:
        lines += [("reason", state.end.reason), ("said", state.end.text)]
        events = [len(facts)]
        refused = [call for call in found if call.stage == "refused"]
        if refused:
            lines.append(
                ("refused", ", ".join(f"{call.call} {call.tool} ({call.rule or call.kind})" for call in refused))
            )
    elif state.cancelling_by is not None:
        lines.append(("reason", f"{state.cancelling_by} asked for its end, and what is under way is being stopped"))
        events = [seq for seq, (_, event) in enumerate(facts, 1) if isinstance(event, CancelRequested)][-1:]
    elif state.pause is not None:
        lines.append(("reason", state.pause))
        events = [seq for seq, (_, event) in enumerate(facts, 1) if isinstance(event, AgentPaused)][-1:]
    elif state.question is not None:
        waiting = next(call for call in found if call.call == state.question.call)
        lines += _lines(waiting)
        events = waiting.seqs
    else:
        under_way = [call for call in found if call.stage == "under way"]
        if under_way:
            told = [
                f"{call.call} {call.tool or 'the model'}, attempt {call.attempts}{_retries(call)}" for call in under_way
            ]
            lines.append(("under way", "; ".join(told)))
            timed = [call for call in state.open if call.not_before_us and call.limit is None]
            later = [f"of {call.id} at {timestamp(call.not_before_us)}" for call in timed]
            if later:
                lines.append(("next attempt", ", ".join(later)))
        else:
            lines.append(("reason", "its next step has not been taken yet; a worker takes it when one is running"))
        events = [seq for call in under_way for seq in call.seqs]
    what = "ended so" if state.status in ENDED else f"is {state.status}"
    return Explanation(state.session, f"Why the session {what}", dict(lines), events=events)


def why_call(state: State, facts: Sequence[Fact], name: str) -> Explanation:
    """What was asked, what was said to it and what came of it, for a call (`3.1`) or the number of an event.

    Raises `NotFound`.
    """
    found = calls(facts)
    if name.isdecimal():
        number = int(name)
        if not 1 <= number <= len(facts):
            raise NotFound(f"{state.session} has no event {number}: it has {len(facts)}.")
        # The reply that asked for calls is an event of the model's call; it is that one which is meant.
        chosen = next((call for call in found if number in call.seqs), None)
        if chosen is None:
            lines = _event_lines(facts, number)
            return Explanation(state.session, f"Why event {number}", dict(lines), events=[number])
    else:
        chosen = next((call for call in found if call.call == name), None)
    if chosen is None:
        near = did_you_mean(name, [call.call for call in found])
        hint = f"Did you mean {near}?" if near else f"`ostler inspect {state.session}` lists its calls."
        raise NotFound(f"{state.session} has no call {name}.", hint=hint)
    return Explanation(state.session, f"Why call {chosen.call}", dict(_lines(chosen)), chosen, chosen.seqs)


def _lines(call: CallView) -> list[tuple[str, str]]:
    """The life of a call in the order in which the gate looks at it."""
    if not call.tool:
        lines = [("asked", f"the model, turn {call.call}")]
    else:
        given = call.asked if call.arguments is None else msgspec.json.encode(call.arguments).decode()
        lines = [("asked", f"{call.tool} {given}")]
    lines.append(("verdict", _verdict(call)))
    judged = (
        ("rule", call.rule),
        ("reason", call.reason),
        ("policy", call.policy),
        ("risk", f"{call.risk:.2f}" if call.risk is not None else ""),
        ("only tried", "; ".join(call.shadow)),
        ("examined", "\n".join(call.examined)),
        ("evidence", "\n".join(call.evidence)),
    )
    lines += [(what, text) for what, text in judged if text]
    if call.decided_by:
        lines.append((_decided(call), call.decided_by + (f": {call.decision}" if call.decision else "")))
    if call.rejected:
        lines.append(("did not count", "\n".join(call.rejected)))
    if call.redacted:
        lines.append(("taken out", ", ".join(f"{number} x {what}" for what, number in call.redacted.items())))
    if call.kind == "expired":
        lines.append(("approval", "nobody answered in time, which is neither a yes nor a no"))
    if call.attempts:
        lines.append(("attempts", f"{call.attempts}{_retries(call)}"))
    if call.stage in ("done", "failed"):
        lines.append(("outcome", f"{call.kind}: {call.outcome}" if call.kind else call.outcome or "ok"))
    return lines


def _verdict(call: CallView) -> str:
    if call.kind in ("denied", "asked back", "expired"):
        return "needed an approval"
    if call.stage in ("waiting", "refused"):
        return _VERDICTS[call.stage]
    if call.decided_by:
        return "allowed after an approval"
    return _VERDICTS[call.stage] if call.tool else "within the limits, so it was asked"


def _decided(call: CallView) -> str:
    """Whether people approved, refused or asked back; what they approved may still be refused, if rules say so then."""
    if call.kind == "asked back":
        return "asked by"
    return "denied by" if call.kind == "denied" else "approved by"


_VERDICTS = {
    "asked": "not judged yet: an earlier call of the turn comes first",
    "waiting": "needs an approval, and waits for it",
    "approved": "approved, and not begun yet",
    "under way": "allowed; it is under way",
    "done": "allowed",
    "failed": "allowed",
    "refused": "refused: nothing was performed",
}


def _retries(call: CallView) -> str:
    each = [(because, len(list(same))) for because, same in groupby(call.retries)]
    because = "; ".join(f"{times} times {text}" if times > 1 else text for text, times in each)
    retried = f" (tried again: {because})" if each else ""
    return f"{retried}, waits for capacity: {call.waits_for}" if call.waits_for else retried


def _event_lines(facts: Sequence[Fact], number: int) -> list[tuple[str, str]]:
    """An event that is no call's: what it says of itself."""
    body: dict[str, object] = msgspec.to_builtins(facts[number - 1][1])
    kind = str(body.pop("type"))
    return [("event", kind), *((name, _text(value)) for name, value in body.items())]


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
