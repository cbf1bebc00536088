"""Why a call is, or was, judged as it is: by the code that judges."""

from ostler.app.policy.case import Case
from ostler.app.policy.past import Reader, facts_for, judged_by
from ostler.app.policy.witness import facts_for as facts_of_written
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.explanation import Explanation
from ostler.domain.constraint.policy import Policy
from ostler.domain.gate import answers_of, facts_of
from ostler.domain.session.events import SESSION_CODEC
from ostler.kernel.errors import NotFound, UsageError
from ostler.kernel.event import StreamId
from ostler.ports import EventStore
from ostler.runtime.replay import state_after


def explain_case(policy: Policy, case: Case) -> Explanation:
    """Why a policy judges a call that somebody has described as it does."""
    compiled = compile_policy(policy)
    return compiled.explain(facts_of_written(compiled, case))


async def explain_event(
    store: EventStore, stream: StreamId, seq: int, policy: Policy | None = None
) -> list[Explanation]:
    """Why a call was judged as it was, by each policy of the session, the outermost first; or by another policy.

    Raises `NotFound` for an event that is not there, and `UsageError` for one that tells of no judgement by rules.
    """
    records = await store.read(stream, limit=seq)
    if len(records) < seq or seq < 1:
        raise NotFound(f"{stream.name} has no event {seq}.", hint=f"`ostler logs {stream.name}` shows its events.")
    state = state_after(records[:-1])
    judged = judged_by(state, SESSION_CODEC.decode(records[-1].data)) if state is not None else None
    if state is None or judged is None:
        raise UsageError(
            f"Event {seq} of {stream.name} tells of no judgement by rules.",
            hint="Those are tool.requested, approval.requested and constraint.failed (if a rule refused the call).",
        )
    if policy is not None:
        reader = Reader(store, compile_policy(policy))
        async for call in reader.calls(until=records[-1].position):
            if call.record.position == records[-1].position:
                return [compile_policy(policy).explain(call.facts)]
        raise NotFound(f"Event {seq} of {stream.name} is a copy of another session's.")
    facts = facts_of(state, judged.tool, judged.arguments, records[-1].at_us)
    answers = answers_of(state, records[-1].at_us)
    known = dict(zip(state.guard.own_questions, answers.own, strict=False))
    known |= dict(zip(state.guard.questions, answers.others, strict=False))
    found = []
    for one in state.guard.policies:
        compiled = compile_policy(one)
        history = tuple(known.get(question, 0.0) for question in compiled.history)
        found.append(compiled.explain(facts_for(compiled, facts, judged.tool, state, history)))
    return found
