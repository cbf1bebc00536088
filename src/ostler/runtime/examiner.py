"""Finds out what a session does not know of a call: what hooks say, other sessions did, and budgets leave."""

from collections.abc import Sequence
from typing import Any

from ostler.domain import context, gate
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
from ostler.domain.session.events import CallExamined, SessionEvent
from ostler.domain.session.pending import ExamineWork
from ostler.domain.session.state import OpenCall, State
from ostler.domain.tool import ToolOutcome, failed
from ostler.kernel.errors import OstlerError
from ostler.ports import Clock
from ostler.runtime.hooks import Hooks


class Examiner:
    """What has to be asked before calls are judged, and of what they brought. It performs nothing itself."""

    def __init__(self, clock: Clock, *, hooks: Hooks | None = None) -> None:
        self._clock = clock
        self._hooks = hooks

    async def examine(self, state: State, work: ExamineWork) -> CallExamined:
        """What was found out about a call that is to be judged. What cannot be found out refuses it."""
        try:
            return await self._examine(state, work)
        except OstlerError as error:
            return CallExamined(work.name, refused=f"it could not be examined: {error.message}")

    async def _examine(self, state: State, work: ExamineWork) -> CallExamined:
        rulings, rewritten = await self._ask_before(state, work)
        return CallExamined(work.name, hooks=rulings, arguments=rewritten)

    async def settle(self, state: State, events: Sequence[SessionEvent]) -> None:
        """Tell the budgets what calls have really used."""

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
            return Reply(withheld, (), "refusal", reply.usage, reply.model), _kept(rulings)
        if said.rewrite is not None:
            return Reply(said.rewrite.value, reply.calls, reply.stop, reply.usage, reply.model), _kept(rulings)
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
                messages=request.messages,
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
