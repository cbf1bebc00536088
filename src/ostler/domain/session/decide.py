"""What happens now: `decide`, the one place where a session's next step is chosen and judged."""

from typing import Any, assert_never

import msgspec

from ostler.domain import gate
from ostler.domain.hook import combine
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.model import AskedCall, Usage, cost_microusd
from ostler.domain.protocols import react
from ostler.domain.protocols.moves import Answer, AskModel
from ostler.domain.resilience.retry import UNBEGUN
from ostler.domain.session import choosing, comparing
from ostler.domain.session import commands as command
from ostler.domain.session.answering import answer
from ostler.domain.session.attempts import (
    COUNTS_FAILED,
    NoRoom,
    Worst,
    as_of_old,
    attempts_max,
    lost,
    may_try_again,
    spent,
    used_by,
    worst_again,
    worst_case,
)
from ostler.domain.session.commands import SessionCommand
from ostler.domain.session.compaction import do_without_summary, make_room, may_be_shortened, summarised
from ostler.domain.session.decision import Decision, close, end, end_at_once, is_open
from ostler.domain.session.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentPaused,
    AgentResumed,
    AnswerRefused,
    ApprovalExpired,
    CallRetried,
    CancelRequested,
    ConstraintFailed,
    InputReceived,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    PolicyMoved,
    Purpose,
    ToolCompleted,
    ToolResumed,
    ToolSuspended,
)
from ostler.domain.session.evolve import evolve
from ostler.domain.session.judging import ask_people, judge_next
from ostler.domain.session.remembering import recall_of
from ostler.domain.session.starting import started_by
from ostler.domain.session.state import LOST, TIME_HAS_COME, OpenCall, State, deadline_us, under_way
from ostler.domain.strategy.choice import NoModel
from ostler.domain.tool import Suspension
from ostler.kernel.errors import ConfigurationError, Conflict, NotAllowed, NotFound

LOSSES_MAX = 20
"""A session whose workers were lost so often in the middle of its calls waits for a person, even if it gets on."""
ROUND_US = 1_000_000
"""How long after all models of a session have failed the first is asked again, if its failure does not say."""
BECAUSE_MAX = 1000
"""How much of what a tool says of a failure is kept, if it is tried again."""


def decide(asked: SessionCommand, state: State | None, *, may_begin: bool = True) -> Decision:
    """The events that follow from a command, and the state after them. No events: it changes nothing (any more).

    `may_begin` False records what came of a call and takes no further step: the worker is about to stop.
    Raises `Conflict` or `NotFound` for what a person asks and the state does not allow. Touches nothing.
    """
    if state is None:
        if not isinstance(asked, command.Start):
            raise NotFound("There is no such session.")
        return _start(asked)
    decision = Decision(state, asked.at_us, may_begin)
    match asked:
        case command.ToolReturned():
            _tool_returned(decision, asked)
        case command.ReplyReceived():
            _reply_received(decision, asked)
        case command.Proceed():
            _advance(decision)
        case command.Examined():
            _examined(decision, asked)
        case command.Compared():
            comparing.compared(decision, asked)
            _advance(decision)
        case command.TakeOver():
            _take_over(decision)
        case command.ReplyFailed():
            _reply_failed(decision, asked)
        case command.CapacityMissed() | command.CapacityFound():
            _capacity_changed(decision, asked)
        case command.WaitOver():
            _wait_over(decision, asked)
        case command.Fail():
            end_at_once(decision, AgentFailed(asked.reason, asked.message), "unknown")
        case command.Start():
            raise Conflict(f"The session {state.session} has started already.")
        case _:
            _decide_people(decision, asked)
            return decision
    if decision.state.mind is not None and decision.state.ending is not None:
        _advance(decision)
    return decision


def _decide_people(
    decision: Decision,
    asked: command.Approve
    | command.Deny
    | command.AskBack
    | command.MovePolicy
    | command.Send
    | command.Pause
    | command.Resume
    | command.Cancel
    | command.Kill,
) -> None:
    """Record what a person decided. Nothing begins here: that is for the worker that holds the session."""
    state, by = decision.state, asked.by.id
    if asked.by.tenant not in (state.by.tenant, DEFAULT_TENANT):
        raise NotAllowed(f"{by} is of the tenant {asked.by.tenant}, and this is a session of another one.")
    if isinstance(asked, command.Approve | command.Deny | command.AskBack):
        answer(decision, asked)
        return
    if state.end is not None:
        raise Conflict(
            f"The session {state.session} has {state.end.status} already.",
            hint=f"`ostler inspect {state.session}` shows how; `ostler fork {state.session}` goes on from its past.",
        )
    match asked:
        case command.MovePolicy():
            decision.emit(PolicyMoved(by, asked.policy, asked.layers, asked.shadow, asked.reason))
        case command.Send() if state.ending is not None:
            raise Conflict(f"The session {state.session} is about to end, and hears nothing any more.")
        case command.Send():
            decision.emit(InputReceived(asked.text, by, asked.images))
        case command.Pause():
            if state.pause is None:
                decision.emit(AgentPaused(by, asked.reason))
        case command.Resume():
            if state.pause is not None:
                decision.emit(AgentResumed(by))
        case command.Cancel():
            if state.cancelling_by is None:
                decision.emit(CancelRequested(by, asked.reason))
            if not under_way(state):
                end_at_once(decision, AgentCancelled(by), "cancelled")
        case command.Kill():
            end_at_once(decision, AgentCancelled(by, "killed"), "unknown")
        case _:
            assert_never(asked)


def _start(asked: command.Start) -> Decision:
    started = started_by(asked)
    decision = Decision(evolve(None, started, asked.at_us), asked.at_us)
    decision.events.append(started)
    return decision


def _reply_received(decision: Decision, asked: command.ReplyReceived) -> None:
    state, reply = decision.state, asked.reply
    call = is_open(state, asked.call)
    if call is None:
        return
    used = reply.usage if asked.shared_with else used_by(state, call, reply)
    if call.purpose == "summary":
        summarised(decision, asked, used)
        _advance(decision)
        return
    understood = react.understand(reply, state.model, asked.call, state.agent.returns)
    decision.emit(
        ModelCompleted(
            call=asked.call,
            text=understood.text,
            calls=understood.calls,
            answer=understood.answer,
            defect=understood.defect,
            stop=reply.stop,
            usage=used,
            cost_microusd=cost_microusd(used, state.model.price),
            model="" if reply.model == state.model.name else reply.model,
            redacted=asked.redacted,
            hooks=asked.hooks,
            reasoning=reply.reasoning,
            fingerprint=reply.fingerprint,
            unfit=bool(understood.misfit),
            shared_with=asked.shared_with,
        )
    )
    if decision.state.is_trial:
        end(decision, AgentCompleted(understood.text, "trial"), "cancelled")
    elif reply.stop == "refusal":
        end(decision, AgentFailed("model_refused", understood.text), "cancelled")
    elif decision.state.misfits > state.agent.limits.repairs:
        text = f"{decision.state.misfits} answers did not fit what the agent returns; the last: {understood.misfit}"
        end(decision, AgentFailed("unfit_answer", text), "cancelled")
    elif decision.state.defects >= state.agent.limits.defects:
        text = f"{decision.state.defects} replies in a row could not be used; the last: {understood.defect}"
        end(decision, AgentFailed("unusable_replies", text), "cancelled")
    else:
        _advance(decision)


def _reply_failed(decision: Decision, asked: command.ReplyFailed) -> None:
    """Try again later, or give up. What people can mend (a missing key) pauses the session instead of ending it."""
    call = is_open(decision.state, asked.call)
    if call is None:
        return
    used = spent(decision.state, call, asked)
    is_wanted = decision.state.cancelling_by is None
    room = _try_again(decision, call, asked, used) if is_wanted else None
    if isinstance(room, Worst):
        _advance(decision)
        return
    cost = cost_microusd(used, decision.state.model.price)
    decision.emit(ModelFailed(call.id, asked.code, asked.message, asked.status, asked.partial, used, cost))
    if not is_wanted:
        _advance(decision)
    elif isinstance(room, NoRoom) and call.purpose == "turn":
        end(decision, AgentFailed(room.reason, f"{room.text}, after {asked.code}: {asked.message}"), "cancelled")
    elif asked.code == ConfigurationError.code:
        decision.emit(AgentPaused("ostler", asked.message))
    elif call.purpose == "summary" or may_be_shortened(decision.state, asked.code):
        _advance(decision)
    else:
        end(decision, AgentFailed("error", f"{asked.code}: {asked.message}"), "cancelled")


def _try_again(decision: Decision, call: OpenCall, asked: command.ReplyFailed, used: Usage) -> Worst | NoRoom | None:
    """Make another attempt, if one makes sense and there is room for it: of another of several models at once, or of
    the same, or the first, after a while.
    """
    state, later = decision.state, asked.retry_at_us
    is_begun = asked.code not in UNBEGUN
    if is_begun and call.attempt >= attempts_max(state, asked.code):
        return None
    again = choosing.choice_after_failure(state, call, asked.at_us, is_final=later is None)
    if again is not None:
        later = (later or asked.at_us + ROUND_US) if again.is_new_round else None
    elif later is None:
        return None
    room = worst_again(state, call, used, again and again.choice)
    if isinstance(room, Worst):
        retried = CallRetried(
            call.id,
            call.attempt + is_begun,
            f"{asked.code}: {asked.message}",
            later,
            code=asked.code,
            status=asked.status,
            partial=asked.partial,
            usage=used,
            cost_microusd=cost_microusd(used, state.model.price),
            max_tokens=room.max_tokens,
            reserved_tokens=room.tokens,
            reserved_microusd=room.microusd,
            choice=again and again.choice,
        )
        decision.emit(as_of_old(state, retried))
    return room


def _capacity_changed(decision: Decision, asked: command.CapacityMissed | command.CapacityFound) -> None:
    """A call that has not begun waits, or begins after all; unless the session is to begin nothing any more."""
    state = decision.state
    call = is_open(state, asked.call)
    if call is None:
        return
    if state.cancelling_by is not None:
        decision.emit(ModelFailed(call.id, "cancelled", "the session was cancelled before this call began"))
        _advance(decision)
    elif isinstance(asked, command.CapacityMissed):
        because = f"waits for capacity: {asked.limit}"
        decision.emit(CallRetried(call.id, call.attempt, because, asked.at_us, asked.limit))
    elif decision.may_begin and state.pause is None:
        decision.emit(CallRetried(call.id, call.attempt, "there is capacity"))


def _wait_over(decision: Decision, asked: command.WaitOver) -> None:
    """A call that waited begins: only after this is in the log, so that nobody takes what waits for what has begun."""
    call = is_open(decision.state, asked.call)
    if call is None or not call.not_before_us:
        return
    if decision.state.cancelling_by is not None:
        close(decision, call, "cancelled", "the session was cancelled before this call began")
        _advance(decision)
    elif decision.may_begin and decision.state.pause is None:
        decision.emit(CallRetried(call.id, call.attempt, TIME_HAS_COME))


def _tool_returned(decision: Decision, asked: command.ToolReturned) -> None:
    call = is_open(decision.state, asked.call)
    if call is None:
        return
    outcome = asked.outcome
    if asked.retry_at_us is not None and may_try_again(decision.state, call, asked.code):
        because = f"{asked.code}: {outcome.output[:BECAUSE_MAX]}"
        attempt = call.attempt + (asked.code not in UNBEGUN)
        retried = CallRetried(call.id, attempt, because, asked.retry_at_us, code=asked.code)
        decision.emit(as_of_old(decision.state, retried))
        _advance(decision)
        return
    if outcome.suspension is not None:
        _tool_suspended(decision, asked.call, outcome.suspension)
        return
    decision.emit(
        ToolCompleted(
            asked.call,
            outcome.ok,
            outcome.output,
            outcome.kind,
            outcome.is_json,
            outcome.blob,
            outcome.size,
            asked.redacted,
            asked.hooks,
            asked.shared_with,
        )
    )
    _advance(decision)


def _tool_suspended(decision: Decision, call: str, suspension: Suspension) -> None:
    """A program waits for a call that it made; the call is judged like one that the model asked for."""
    program = is_open(decision.state, call)
    assert program is not None, "it was asked whether the call is open"
    if decision.state.cancelling_by is not None:
        close(decision, program, "cancelled", "the session was cancelled during this call")
    else:
        arguments = msgspec.json.encode(suspension.arguments).decode()
        asked = AskedCall(f"{call}.{program.inner_calls + 1}", suspension.tool, arguments)
        decision.emit(ToolSuspended(call, asked, suspension.snapshot))
    _advance(decision)


def _take_over(decision: Decision) -> None:
    """Every open intent may have been performed by a worker that is gone: the effect class says what may follow."""
    state = decision.state
    is_hopeless = state.losses >= LOSSES_MAX and state.cancelling_by is None
    for call in under_way(state):
        if is_hopeless:
            close(decision, call, "unknown", f"given up: workers were lost during {state.losses} calls of this session")
        elif state.cancelling_by is not None:
            close(decision, call, "unknown", "the worker was lost while it was being cancelled")
        elif call.not_before_us and state.pause is not None and state.gate >= COUNTS_FAILED:
            pass  # it has not begun, and does not before the pause is over
        elif call.not_before_us > decision.at_us and call.arguments is not None:
            decision.emit(CallRetried(call.id, call.attempt, "it still waits", call.not_before_us))
        elif call.not_before_us:
            # Nobody was lost: whoever waits for long lets go. A worker that is lost after this is counted as ever.
            decision.emit(CallRetried(call.id, call.attempt, TIME_HAS_COME))
        elif call.attempt >= attempts_max(state, ""):
            reason = f"given up: the worker was lost during attempt {call.attempt} of this call"
            close(decision, call, "unknown", reason)
            if call.arguments is None and call.purpose == "turn":
                end(decision, AgentFailed("error", reason), "cancelled")
        elif _effect(state, call) == "once":
            close(decision, call, "unknown", "the worker was lost during this call; nobody knows whether it happened")
            if state.agent.on_unknown == "pause":
                decision.emit(AgentPaused("ostler", f"nobody knows whether call {call.id} ({call.tool}) happened"))
        elif (no_room := _try_lost(decision, call)) is not None:
            end(decision, AgentFailed(no_room.reason, f"{no_room.text}, after a worker was lost"), "cancelled")
    if is_hopeless:
        reason = f"parked: workers were lost during {state.losses} calls; `resume` goes on"
        decision.emit(AgentPaused("ostler", reason, is_parked=True))
    _advance(decision)


def _try_lost(decision: Decision, call: OpenCall) -> NoRoom | None:
    """Make another attempt of a call whose worker is gone, if limits leave room for it."""
    state = decision.state
    used = lost(state, call)
    room = worst_again(state, call, used)
    if isinstance(room, NoRoom):
        return room
    decision.emit(
        CallRetried(
            call.id,
            call.attempt + 1,
            LOST,
            usage=used,
            cost_microusd=cost_microusd(used, state.model.price),
            max_tokens=room.max_tokens,
            reserved_tokens=room.tokens,
            reserved_microusd=room.microusd,
        )
    )
    return None


def _advance(decision: Decision) -> None:
    """Take every step that can be taken now, up to the next intents or the next wait."""
    while decision.may_begin and _step(decision):
        pass


def _step(decision: Decision) -> bool:
    """Take one step; False when there is none to take before something else happens."""
    state = decision.state
    if state.end is not None:
        return False
    if state.cancelling_by is not None:
        if not under_way(state):
            end_at_once(decision, AgentCancelled(state.cancelling_by), "cancelled")
        return False
    if state.mind is not None and state.mind.ending is not None and not state.asked and not state.open:
        decision.emit(state.mind.ending)
        return False
    deadline = deadline_us(state)
    if deadline is not None and decision.at_us >= deadline:
        text = f"the time limit of {state.agent.limits.seconds:g} s is used up"
        end(decision, AgentFailed("timeout", text), "timeout")
        return False
    if state.question is not None:
        expires = state.question.expires_us
        if expires is None or decision.at_us < expires or state.pause is not None:
            return False
        decision.emit(ApprovalExpired(state.question.call))
        if not state.question.tool:
            decision.emit(AgentPaused("ostler", "nobody answered whether the model may be asked; `resume` asks again"))
        return True
    if state.pause is not None or state.measuring:
        return False
    for call in () if state.undoing else state.open:
        if call.is_suspended and call.answer is not None:
            decision.emit(ToolResumed(call.id))
            return True
    if state.asked:
        return judge_next(decision)
    if state.open:
        return False
    match react.next_move(state):
        case AskModel():
            return (state.mind is not None and _recall(decision)) or _ask_model(decision)
        case Answer(text):
            return _finish(decision, text)


def _finish(decision: Decision, answer: str) -> bool:
    """End with this answer, unless hooks refuse it or have put another in its place. True if there is more to do."""
    state = decision.state
    if not state.agent.hooks:
        end(decision, AgentCompleted(answer), "cancelled")
        return False
    found = state.examined
    if found is None or found.call != gate.END:
        return False
    said = combine(found.hooks)
    if said.effect == "deny":
        decision.emit(AnswerRefused(said.reason, found.hooks))
        return True
    if found.arguments is not None:
        answer, wrong = react.fitted(str(found.arguments["answer"]), state.agent.returns)
        if wrong:
            end(decision, AgentFailed("unfit_answer", f"hooks put another answer in its place: {wrong}"), "cancelled")
            return False
    end(decision, AgentCompleted(answer), "cancelled")
    return False


def _recall(decision: Decision) -> bool:
    """Ask for what bears on what people have said, before the model is asked; False if there is no need to."""
    recall = recall_of(decision.state)
    if recall is not None:
        decision.emit(recall)
    return recall is not None


def _examined(decision: Decision, asked: command.Examined) -> None:
    """Something was found out about the call that is judged next, if it still is that one.

    It is only recorded where the judgement follows at once: who knows how things stand when another worker goes on.
    """
    state, found = decision.state, asked.found
    is_next = decision.may_begin and found.call == gate.unexamined(state)
    is_wanted = is_next and (asked.before is None or gate.still_holds(asked.before, state))
    if is_wanted and gate.answers_suffice(state, found):
        decision.emit(found)
    _advance(decision)


def _ask_model(decision: Decision) -> bool:
    """Ask for the next reply if the gate lets it pass and the limits leave room for the worst case.

    True if it was not asked for, but there is more room now.
    """
    state, limits = decision.state, decision.state.agent.limits
    call = str(state.steps + 1)
    if limits.steps is not None and state.steps >= limits.steps:
        end(decision, AgentFailed("step_limit", f"the limit of {limits.steps} steps is used up"), "cancelled")
        return False
    covers = make_room(decision)
    state, choice = decision.state, None
    if state.is_routed and gate.is_examined(state, call) and state.examined is not None and state.examined.routing:
        chosen = choosing.choice_for(state, state.examined)
        if isinstance(chosen, NoModel):
            if covers and do_without_summary(decision):
                return True
            end(decision, AgentFailed("no_model", str(chosen)), "cancelled")
            return False
        state, choice = choosing.with_model(state, chosen.model), chosen
    match gate.judge_model(state, decision.at_us):
        case gate.Unexamined():
            pass
        case gate.Refused(kind, reason) as judged:
            decision.emit(ConstraintFailed(call, "", kind, reason, **gate.recorded(state, judged)))
            why = "budget" if judged.verdict.rule == "budget" else "denied"
            end(decision, AgentFailed(why, f"the model may not be asked: {reason}"), "cancelled")
        case gate.Asked() as asked:
            shown = {} if choice is None else {"model": choice.model}
            ask_people(decision, call, "", msgspec.structs.replace(asked, arguments=shown))
        case gate.Passed() as passed:
            more = gate.recorded(state, passed) if state.gate > 1 else {}
            return _ask_model_within_budget(decision, state, call, {**more, "choice": choice, "covers": covers})
    return False


def _ask_model_within_budget(decision: Decision, state: State, call: str, more: dict[str, Any]) -> bool:
    """Ask for it with the worst case reserved, if the limits leave room for that."""
    covers = more["covers"]
    purpose: Purpose = "summary" if covers else "turn"
    match worst_case(state, covers):
        case NoRoom(reason, text):
            if covers and do_without_summary(decision):
                return True
            end(decision, AgentFailed(reason, text), "cancelled")
        case Worst(max_tokens, tokens, microusd):
            decision.emit(
                ModelRequested(
                    call,
                    max_tokens=max_tokens,
                    reserved_tokens=tokens,
                    reserved_microusd=microusd,
                    purpose=purpose,
                    **more,
                )
            )
    return False


def _effect(state: State, call: OpenCall) -> str:
    """The effect class of an open call; a model call changes nothing in the world."""
    if call.arguments is None:
        return "read"
    spec = state.agent.tool(call.tool)
    return "once" if spec is None else spec.effect
