"""Finds out what a session does not know of a call: what hooks say, other sessions did, and budgets leave."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ostler.domain import context, gate
from ostler.domain.budget import Amounts, Left, rate
from ostler.domain.constraint.syntax import Scope
from ostler.domain.fitness.target import Measured, unmeasured
from ostler.domain.grant import Grant
from ostler.domain.guard import called
from ostler.domain.hook import (
    Continue,
    Deny,
    Ending,
    HookPoint,
    ModelAnswered,
    ModelAsked,
    Rewrite,
    Ruling,
    Subject,
    ToolAnswered,
    ToolAsked,
    combine,
)
from ostler.domain.model import Reply
from ostler.domain.screening.detectors import BUILTIN, Detectors
from ostler.domain.session import choosing
from ostler.domain.session.events import CallExamined, SessionEvent
from ostler.domain.session.interventions import is_undoing
from ostler.domain.session.pending import ExamineWork, MeasureWork
from ostler.domain.session.state import OpenCall, State
from ostler.domain.strategy.choice import Choice, NoModel
from ostler.domain.tool import ToolOutcome, ToolSpec, failed
from ostler.kernel.errors import ConfigurationError, OstlerError
from ostler.kernel.event import StreamId
from ostler.ports import Clock
from ostler.runtime.hooks import Hooks
from ostler.runtime.pasts import Pasts
from ostler.runtime.router import Router
from ostler.runtime.spending import Booking, Spending, spender, worst_of

if TYPE_CHECKING:
    from ostler.runtime.fitness import Keeper

GrantFault = Callable[[str, str], Awaitable[str]]
HOLDS = 3.0
"""A reservation is overdue after so many times as long as the call may take."""
_BUDGET = frozenset({"budget.tokens_left", "budget.cost_left", "budget.calls_left"})


class Examiner:
    """What has to be asked before calls are judged, and of what they brought. It performs nothing itself."""

    def __init__(
        self,
        clock: Clock,
        *,
        hooks: Hooks | None = None,
        pasts: Pasts | None = None,
        spending: Spending | None = None,
        grant_fault: GrantFault | None = None,
        router: Router | None = None,
        detectors: Detectors = BUILTIN,
        fitness: "Keeper | None" = None,
    ) -> None:
        """`grant_fault` says why nothing may be done under a grant of a tenant any more; empty if it is in force."""
        self.detectors = detectors
        self._grant_fault = grant_fault
        self._clock = clock
        self._hooks = hooks
        self._pasts = pasts
        self._spending = spending
        self._router = router
        self._fitness = fitness

    async def examine(self, state: State, work: ExamineWork) -> CallExamined:
        """What was found out about a call that is to be judged. What cannot be found out refuses it."""
        try:
            return await self._examine(state, work)
        except OstlerError as error:
            return CallExamined(work.name, refused=f"it could not be examined: {error.message}")
        except Exception as error:
            return CallExamined(work.name, refused=f"it could not be examined: {type(error).__name__}")

    async def _examine(self, state: State, work: ExamineWork) -> CallExamined:
        if state.grant is not None and work.asked is not None and (fault := await self._fault_of(state.grant)):
            return CallExamined(work.name, refused=fault)
        routed = worst = None
        if state.is_routed and work.asked is None and work.name != gate.END:
            routed = await self._route(state, work.name)
            chosen = choosing.choice_for(state, routed)
            if isinstance(chosen, NoModel):
                return routed
            worst = _dearest(state, chosen)
            state = choosing.with_model(state, chosen.model)
        rulings, rewritten = await self._ask_before(state, work)
        if work.name == gate.END or combine(rulings).effect == "deny":
            return CallExamined(work.name, hooks=rulings, arguments=rewritten)
        spec = None if work.asked is None else state.agent.tool(work.asked.name)
        asked = gate.arguments_of(state, work.asked) if work.asked is not None else None
        arguments = asked or {} if rewritten is None else rewritten
        answers = await self._answers(state) if routed is None else routed.answers
        fitness = await self._measure_before(state, work.name, spec)
        booking = await self._book(state, work.name, spec, arguments, worst or worst_of(state, spec))
        left = await self._left(state) if routed is None else _left_in(routed)
        return CallExamined(
            work.name,
            answers=answers,
            refused=booking.refused,
            asks=booking.asks,
            warnings=booking.warnings,
            hooks=rulings,
            arguments=rewritten,
            tokens_left=left.tokens,
            cost_left_microusd=left.microusd,
            calls_left=left.calls,
            budgets=booking.beyond,
            routing=None if routed is None else routed.routing,
            fitness=fitness,
        )

    async def _measure_before(self, state: State, call: str, spec: ToolSpec | None) -> tuple[Measured, ...]:
        """How the targets stand that are measured around the tool; of what undoes a call, nobody asks."""
        if spec is None or not spec.fitness or is_undoing(state, call):
            return ()
        if self._fitness is None:
            raise ConfigurationError(f"Nobody measures {', '.join(spec.fitness)} here.")
        return await self._fitness.before(state.by.tenant, spec.fitness, spec.name, session=state.session, call=call)

    async def measure(self, state: State, work: MeasureWork) -> tuple[Measured, ...]:
        """How the targets stand that were measured before a call."""
        if self._fitness is None:
            return unmeasured(work.after.before, "nobody measures it here")
        return await self._fitness.after(state.by.tenant, work.after.before)

    async def _route(self, state: State, call: str) -> CallExamined:
        """What a choice among the candidates depends on."""
        if self._router is None:
            raise ConfigurationError("Nobody can look at several models here.")
        left = await self._left(state, is_asked=True)
        found = CallExamined(
            call,
            answers=await self._answers(state),
            tokens_left=left.tokens,
            cost_left_microusd=left.microusd,
            calls_left=left.calls,
        )
        return msgspec.structs.replace(found, routing=await self._router.route(state, found))

    async def _fault_of(self, grant: Grant) -> str:
        if self._grant_fault is None:
            raise ConfigurationError("Nobody knows here whether a grant is still in force.")
        return await self._grant_fault(grant.tenant, grant.id)

    async def _answers(self, state: State) -> tuple[float, ...]:
        """What other sessions did, as far as policies ask. Raises `ConfigurationError` where nobody can look."""
        own = state.guard.own_questions if state.has_moved else ()
        others = state.guard.questions
        if not own and not others:
            return ()
        if self._pasts is None:
            raise ConfigurationError("Nobody can look at what sessions did.")
        now_us = self._clock.now_us()
        found = await self._pasts.own(own, state, now_us) if own else ()
        return found + (await self._pasts.answers(others, state, now_us) if others else ())

    async def _book(
        self, state: State, call: str, spec: ToolSpec | None, arguments: Mapping[str, Any], worst: Amounts
    ) -> Booking:
        """Reserve what the call may use of budgets, and what it takes of limits that sessions share."""
        rates = [
            rate(
                f"{policy.name}@{policy.digest[:8]}/{limit.rule}/{limit.per}/{_correlated(state, limit.per)}",
                state.by.tenant,
                amount=_amount(limit.argument, arguments),
                most=limit.ceiling,
                window_us=limit.window_us,
            )
            for policy, limit in state.guard.limits_on(called(spec, state.model.name))
        ]
        rates = list({one.account: one for one in rates}.values())  # two layers may be the same policy
        if not state.is_budgeted and not rates:
            return Booking()
        if self._spending is None:
            raise ConfigurationError("Nobody keeps budgets here.")
        hold_s = spec.timeout_s if spec is not None else state.agent.settings.timeout_s
        return await self._spending.reserve(spender(state), call, worst, hold_s=hold_s * HOLDS, rates=rates)

    async def _left(self, state: State, *, is_asked: bool = False) -> Left:
        if self._spending is None or not state.is_budgeted:
            return Left(None, None, None)
        if not is_asked and _BUDGET.isdisjoint(state.guard.uses):
            return Left(None, None, None)
        return await self._spending.left(spender(state))

    def settle(self, stream: StreamId, state: State, at_us: int, events: Sequence[SessionEvent]) -> None:
        """Tell the budgets what calls have really used, now that it is recorded."""
        if self._spending is not None and (state.is_budgeted or state.guard.questions):
            self._spending.follow(stream, at_us, events)
        if self._fitness is not None:
            self._fitness.follow(state, at_us, events)

    def leave(self, stream: StreamId, state: State | None) -> None:
        """The session is not run here any more; this is how it stands, if that is known."""
        if self._fitness is not None and state is not None and state.end is not None:
            self._fitness.ended(state)
        if self._spending is not None:
            self._spending.leave(stream)

    async def recover(self) -> None:
        """Settle what processes that are gone have left open."""
        if self._spending is not None:
            await self._spending.recover()

    async def close(self) -> None:
        if self._spending is not None:
            await self._spending.close()

    async def screen_outcome(
        self, state: State, call: OpenCall, outcome: ToolOutcome
    ) -> tuple[ToolOutcome, tuple[Ruling, ...]]:
        """The outcome of a tool as hooks leave it, and what they said."""
        if not state.agent.hooks:
            return outcome, ()
        shown = ToolAnswered(
            **_who(state),
            call=call.id,
            tool=call.tool,
            arguments=call.arguments or {},
            output=outcome.output,
            ok=outcome.ok,
            is_json=outcome.is_json,
        )
        rulings = await self._ask("post_tool", shown, state)
        said = combine(rulings)
        if said.effect == "deny":
            return failed("blocked", f"the call was performed, and its output withheld: {said.reason}"), _kept(rulings)
        if said.rewrite is not None:
            return ToolOutcome(outcome.ok, said.rewrite.value, outcome.kind), _kept(rulings)
        return outcome, _kept(rulings)

    def screens_replies(self, state: State) -> bool:
        """Whether hooks see what a model says before it is recorded, and may put something else in its place."""
        hooks = state.agent.hooks
        return bool(hooks) and (self._hooks is None or self._hooks.are_asked("post_model", hooks))

    async def screen_reply(self, state: State, call: OpenCall, reply: Reply) -> tuple[Reply, tuple[Ruling, ...]]:
        """The reply of a model as hooks leave it, and what they said. A refused reply says so, and asks for nothing."""
        if not state.agent.hooks:
            return reply, ()
        shown = ModelAnswered(
            **_who(state), call=call.id, model=state.model.name, text=reply.text, calls=tuple(reply.calls)
        )
        rulings = await self._ask("post_model", shown, state)
        said = combine(rulings)
        if said.effect == "deny":
            withheld = f"[The reply was withheld: {said.reason}]"
            reply = msgspec.structs.replace(reply, text=withheld, calls=(), stop="refusal", reasoning=())
        elif said.rewrite is not None:
            reply = msgspec.structs.replace(reply, text=said.rewrite.value, reasoning=())
        return reply, _kept(rulings)

    async def _ask_before(self, state: State, work: ExamineWork) -> tuple[tuple[Ruling, ...], dict[str, Any] | None]:
        """What hooks say of a call before it is judged, and what they put in place of its arguments."""
        if not state.agent.hooks:
            return (), None
        point, shown, part = self._shown(state, work)
        if shown is None:
            return (), None
        rulings = await self._ask(point, shown, state)
        rewrite = combine(rulings).rewrite
        if rewrite is None:
            return _kept(rulings), None
        return _kept(rulings), rewrite.value if part is None else {part: rewrite.value}

    def _shown(self, state: State, work: ExamineWork) -> tuple[HookPoint, Subject | None, str | None]:
        """The point, what hooks are shown there, and the name under which what they rewrite is kept."""
        if work.name == gate.END:
            return "on_end", Ending(**_who(state), answer=state.answer or ""), "answer"
        if work.asked is None:
            request = context.request(state, OpenCall(work.name))
            shown = ModelAsked(
                **_who(state),
                call=work.name,
                model=state.model.name,
                system=request.system,
                messages=context.next_messages(state),
            )
            return "pre_model", shown, "system"
        arguments = gate.arguments_of(state, work.asked)
        if arguments is None:
            return "pre_tool", None, None
        asked = ToolAsked(**_who(state), call=work.name, tool=work.asked.name, arguments=arguments)
        return "pre_tool", asked, None

    async def _ask(self, point: HookPoint, shown: Subject, state: State) -> tuple[Ruling, ...]:
        if self._hooks is None:
            reason = "no hooks are known to this process, and so none can be asked"
            return (Ruling(state.agent.hooks[0], point, Deny(reason), is_fault=True),)
        return await self._hooks.ask(point, shown, state.agent.hooks)


def _dearest(state: State, chosen: Choice) -> Amounts:
    """The most that the call can use, whichever of the candidates that fit it is asked in the end."""
    excluded = {name for name, _ in chosen.excluded}
    worst = [worst_of(choosing.with_model(state, card.name), None) for card in state.candidates]
    fitting = [one for one, card in zip(worst, state.candidates, strict=True) if card.name not in excluded]
    return max(fitting, key=lambda one: math.inf if one.microusd is None else one.microusd)


def _left_in(found: CallExamined) -> Left:
    return Left(found.tokens_left, found.cost_left_microusd, found.calls_left)


def _correlated(state: State, per: Scope) -> str:
    """Whose calls a limit counts together."""
    names: dict[Scope, str] = {
        "session": state.session,
        "agent": state.agent.name,
        "principal": state.by.id,
        "tenant": state.by.tenant,
    }
    return names[per]


def _amount(argument: tuple[str, ...], arguments: Mapping[str, Any]) -> float:
    """What the call takes of a limit: 1, or the argument that is summed up; what is no number takes nothing."""
    if not argument:
        return 1.0
    value: Any = arguments
    for part in argument:
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _kept(rulings: Sequence[Ruling]) -> tuple[Ruling, ...]:
    """What is recorded of rulings: those that said something, without the texts, which stand elsewhere in the event."""
    return tuple(
        Ruling(ruling.hook, ruling.point, Rewrite(None, ruling.answer.reason), ruling.before, ruling.after)
        if isinstance(ruling.answer, Rewrite)
        else ruling
        for ruling in rulings
        if not isinstance(ruling.answer, Continue)
    )


def _who(state: State) -> dict[str, str]:
    return {"session": state.session, "tenant": state.by.tenant, "agent": str(state.agent)}
