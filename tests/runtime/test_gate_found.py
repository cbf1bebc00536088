"""What an adversarial reading of the gate's runtime has found, and must stay closed."""

import asyncio

import msgspec
import pytest

from ostler import Agent, Policy, Principal, Runtime, tool
from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.tools.code import CodeTools
from ostler.adapters.tools.thread import in_thread
from ostler.app.governance import Governing
from ostler.domain.agent import AgentSpec
from ostler.domain.hook import Continue, Deny, ModelAnswered, ModelAsked, Rewrite
from ostler.domain.model import Reply, Usage, UserMessage
from ostler.domain.session import commands as command
from ostler.domain.session.events import ModelCompleted, ToolCompleted, ToolSuspended
from ostler.domain.session.pending import ExamineWork, pending
from ostler.kernel.errors import Halted
from ostler.ports import Append
from ostler.runtime.examiner import Examiner
from ostler.runtime.hooks import Hooks, hook
from ostler.runtime.pasts import Pasts
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls
from tests.domain.session.story import Story
from tests.runtime.watching import only

OWNER = Principal("owner", scopes=("*",))


class Standing:
    """A clock that does not move."""

    def now_us(self) -> int:
        return 1_000_000


def examination(story: Story) -> ExamineWork:
    (work,) = [one for one in pending(story.now) if isinstance(one, ExamineWork)]
    return work


async def test_a_hook_before_the_model_sees_what_was_said_meanwhile() -> None:
    seen: list[str] = []

    @hook("pre_model", name="dlp")
    async def look(asked: ModelAsked) -> Continue | Deny:
        seen.extend(message.text for message in asked.messages if isinstance(message, UserMessage))
        return Deny("it is a secret") if any("hunter2" in text for text in seen) else Continue()

    story = Story(hooks=("dlp",)).start()
    story.do(command.Send(story.us, "The password is hunter2.", story.by))
    examiner = Examiner(Standing(), hooks=Hooks([look], in_thread=in_thread))
    found = await examiner.examine(story.now, examination(story))
    assert seen == ["Do it.", "The password is hunter2."]
    assert isinstance(found.hooks[0].answer, Deny)


async def test_what_nobody_has_thought_of_while_a_call_is_examined_refuses_it() -> None:
    class Broken(Pasts):
        async def answers(self, *_: object) -> tuple[float, ...]:
            raise ZeroDivisionError("hunter2")

    story = Story(by=OWNER)
    text = "ALLOW tool.*\nALLOW model.*\nDENY model.* IF COUNT(tool.pay) WITHIN 1h PER tenant > 3"
    story.spec = msgspec.structs.replace(story.spec, policy=Policy("house", text=text))
    story.start()
    examiner = Examiner(Standing(), pasts=Broken(MemoryStore()))
    found = await examiner.examine(story.now, examination(story))
    assert (found.refused is None, found.asks, "hunter2" in str(found)) == (False, False, False)


async def test_a_session_keeps_the_policy_that_it_was_started_under_when_it_is_moved() -> None:
    @tool(effect="once")
    def pay() -> str:
        """Pay."""
        return "paid"

    agent = Agent("payer", tools=[pay], model=Scripted(calls(("pay", {})), "done"))
    strict = Policy("no-money", text="default allow DENY tool.pay")
    async with Runtime.open("memory:", agents=[agent], worker=False) as runtime:
        session = await runtime.start(agent, "pay", policy=strict)
        await session.move_policy(reason="those of today")
        assert strict in (await session.state()).layers
        await session.move_policy(Policy("other"), reason="another of its own")
        assert strict in (await session.state()).layers


async def test_no_session_is_forked_while_all_are_halted() -> None:
    agent = Agent("talker", model=Scripted("done"))
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(agent, "talk")
        await session.result(timeout_s=20)
        await runtime.halt("a strange bill")
        with pytest.raises(Halted):
            await session.fork()


async def test_a_fork_is_under_the_policies_of_its_own_day() -> None:
    anna, bert = (Principal(name, scopes=("govern",)) for name in ("anna", "bert"))
    agent = Agent("talker", model=Scripted("done"))
    tight, own = Policy("tight", text="default allow DENY tool.pay"), Policy("own", text="default allow DENY tool.sell")
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(agent, "talk", policy=own)
        await session.result(timeout_s=20)
        await Governing(runtime.parts, "default", anna).propose(tight, "1" * 64, "incomparable", "")
        await Governing(runtime.parts, "default", bert).approve("1" * 64, "")
        await Governing(runtime.parts, "default", anna).apply("1" * 64)
        forked = await session.fork()
        assert (await forked.state()).layers == (tight, own)
        replay([record async for record in forked.records(follow=False)])


def programmer(program: str) -> tuple[Agent, AgentSpec, Scripted]:
    (run,) = CodeTools().specs()
    model = Scripted(calls(("code.run", {"code": program})), "done")
    agent = Agent("coder", tools=[look_up], model=model)
    return agent, msgspec.structs.replace(agent.spec, tools=(*agent.spec.tools, run)), model


@tool(effect="read")
def look_up(name: str = "") -> str:
    """Find."""
    return "found"


@pytest.mark.parametrize("program", ["look_up(name={(1, 2): 3})", "look_up(name={1: {(1, 2): 3}})"])
async def test_whatever_a_program_gives_to_a_tool_can_be_judged_and_replayed(program: str) -> None:
    agent, spec, model = programmer(program)
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(spec, "go", model=model.ref)
        await session.result(timeout_s=30)
        facts = await session.facts()
        records = [record async for record in session.records(follow=False)]
    (suspended,) = [event for _, event in facts if isinstance(event, ToolSuspended)]
    assert suspended.asked.arguments.startswith('{"name":')
    replay(records)


async def test_a_program_that_holds_too_much_when_it_calls_is_ended() -> None:
    agent, spec, model = programmer("x = list(range(1_000_000))\nlook_up(name='a')\nlen(x)")
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(spec, "go", model=model.ref)
        await session.result(timeout_s=30)
        facts = await session.facts()
        sizes = [len(record.data) async for record in session.records(follow=False)]
    (ended,) = [event for _, event in facts if isinstance(event, ToolCompleted)]
    assert (ended.ok, ended.kind) == (False, "permanent")
    assert "bytes" in ended.output
    assert max(sizes) < 100_000


async def test_a_model_in_the_text_grammar_is_not_told_of_tools_that_no_call_could_use() -> None:
    @tool(effect="once")
    def pay() -> str:
        """Pay."""
        return "paid"

    model = Scripted("Final Answer: done", tools="text")
    agent = Agent("payer", tools=[look_up, pay], model=model, rules=Policy("p", text="default allow DENY tool.pay"))
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        await (await runtime.start(agent, "go")).result(timeout_s=20)
    assert "look_up: Find." in model.requests[0].system
    assert "pay" not in model.requests[0].system


async def test_limits_of_policies_that_share_no_more_than_a_name_are_kept_apart() -> None:
    def seller(name: str) -> Agent:
        text = f"default allow\nLIMIT tool.{name} TO 1 PER 1h PER tenant"

        @tool(name=name, effect="once")
        def sell() -> str:
            """Sell."""
            return "sold"

        model = Scripted(calls((name, {})), "done", name=name)
        return Agent(name, tools=[sell], model=model, rules=Policy("default", text=text))

    first, second = seller("hats"), seller("ties")
    async with Runtime.open("memory:", agents=[first, second]) as runtime:
        for agent in (first, second):
            session = await runtime.start(agent, "sell")
            await session.result(timeout_s=20)
            assert any(isinstance(event, ToolCompleted) and event.ok for _, event in await session.facts())


async def test_a_limit_that_stands_in_two_layers_is_drawn_on_once() -> None:
    twice = Policy("twice", text="default allow\nLIMIT tool.look_up TO 2 PER 1h PER tenant")
    model = Scripted(*[calls(("look_up", {}))] * 3, "done", name="twice")
    agent = Agent("looker", tools=[look_up], model=model, rules=twice)
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(agent, "go", policy=twice)
        await session.result(timeout_s=20)
        outcomes = [event.ok for _, event in await session.facts() if isinstance(event, ToolCompleted)]
    assert outcomes == [True, True]


async def test_a_call_whose_intent_was_being_written_when_all_was_halted_is_performed() -> None:
    """It was let pass a moment before; left alone, nobody would know later whether it happened."""
    paid = []

    @tool(effect="once")
    def pay() -> str:
        """Pay."""
        paid.append(1)
        return "paid"

    agent = Agent("payer", tools=[pay], model=Scripted(calls(("pay", {})), "done", name="halted"))
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        append = runtime.parts.store.append

        async def halting(wanted: Append) -> object:
            done = await append(wanted)
            if any(b'"tool.requested"' in record.data for record in wanted.records):
                await runtime.halt("at this very moment")
            return done

        runtime.parts.store.append = halting  # type: ignore[method-assign,assignment]
        session = await runtime.start(agent, "pay")
        while not runtime.parts.governor.is_halted("default"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await runtime.let_go(session.stream)
        assert (paid, (await session.state()).open) == ([1], ())
        await runtime.release()
        await session.result(timeout_s=20)
        outcomes = [event.kind for _, event in await session.facts() if isinstance(event, ToolCompleted)]
    assert (paid, outcomes) == ([1], [None])


async def test_what_no_rule_speaks_of_is_let_pass_whatever_inputs_other_rules_need() -> None:
    text = "default allow\ninput ceiling: number\nDENY tool.pay IF args.amount > ceiling"
    agent = Agent("looker", tools=[look_up], model=Scripted(calls(("look_up", {})), "done", name="inputs"))
    async with Runtime.open("memory:", agents=[agent]) as runtime:
        session = await runtime.start(agent, "go", policy=Policy("p", text=text), inputs={"ceiling": 5})
        assert (await session.result(timeout_s=20)).is_success


@pytest.mark.parametrize("answer", [Rewrite("shorter"), Deny("not so")])
async def test_what_hooks_make_of_a_reply_does_not_change_who_is_said_to_have_answered(answer: Rewrite | Deny) -> None:
    @hook("post_model", name="editor")
    def edit(subject: ModelAnswered) -> Rewrite | Deny:
        return answer

    model = Scripted(Reply("long", usage=Usage(3, 4), model="m-2026", fingerprint="fp_1"))
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=model, hooks=[edit]), "Go.")
        await session.result()
        completed = await only(session, ModelCompleted)
        assert "long" not in completed.text
        assert (completed.model, completed.fingerprint, completed.usage) == ("m-2026", "fp_1", Usage(3, 4))
