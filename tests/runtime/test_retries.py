"""Attempts that follow one another by the log: of models and tools, across restarts, with nothing held meanwhile."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler import Agent, Runtime, Tool, ToolRequest, tool
from ostler.adapters.tools.functions import Failure
from ostler.app.settings import Settings, resolve
from ostler.domain.agent import Limits
from ostler.domain.model import NAME_CHARACTERS_MAX, TOKENS_MAX, ModelSettings, Price, Reply, Usage
from ostler.domain.resilience.pressure import Pressure
from ostler.domain.resilience.retry import Backoff, Retries
from ostler.domain.screening.controls import acting
from ostler.domain.session.events import (
    CallRetried,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.errors import IncompleteReply, OstlerError, ProviderOverloaded, ProviderRejected, RateLimited
from ostler.runtime import runner
from ostler.runtime.replay import replay
from ostler.testing import Scripted, calls
from tests.runtime.watching import events, only, reached

AT_ONCE = Limits(retries=Retries(base_s=1e-6))


def settings_of(**more: Any) -> Settings:
    return msgspec.structs.replace(resolve({}, Path("/"), store="memory:"), **more)


class Moody:
    """A model that fails as often as it is told to before it answers, and says when it was asked."""

    def __init__(self, *errors: Exception, turns: tuple[Reply | str, ...] = ("done",)) -> None:
        self.script = Scripted(*turns)
        self.ref = self.script.ref
        self.errors = list(errors)
        self.moments: list[float] = []

    async def complete(self, request: Any, on_text: Any) -> Reply:
        self.moments.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return await self.script.complete(request, on_text)

    async def close(self) -> None:
        """Nothing is held."""


def broken_off(text: str) -> IncompleteReply:
    error = IncompleteReply("it broke off")
    error.partial_text = text
    return error


async def replayed(session: Any, runtime: Runtime) -> None:
    assert replay(await runtime.parts.journal.records(session._stream)).state.end is not None


async def test_a_model_that_fails_is_asked_again_until_it_answers_and_the_log_tells_all_of_it() -> None:
    model = Moody(ProviderOverloaded("busy", status=529), broken_off("Let me lo"), RateLimited("slow", status=429))
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=model, limits=AT_ONCE), "Go.")
        assert (await session.result()).text == "done"
        failed = [event for event in await events(session) if isinstance(event, CallRetried) and event.code]
        assert [(event.attempt, event.code, event.status, event.partial) for event in failed] == [
            (2, "provider_overloaded", 529, ""),
            (3, "incomplete_reply", None, "Let me lo"),
            (4, "rate_limited", 429, ""),
        ]
        assert [event.usage.total_tokens > 0 for event in failed] == [False, True, False]
        await replayed(session, runtime)


async def test_a_wait_survives_the_worker_holds_nothing_and_is_as_long_as_it_was_asked_to_be(tmp_path: Path) -> None:
    model = Moody(RateLimited("slow", status=429, retry_after_s=0.4))
    agent = Agent("clerk", model=model, limits=AT_ONCE)
    async with Runtime.open(tmp_path / "ostler.db", agents=[agent]) as runtime:
        session = await runtime.start(agent, "Go.")
        retried = await reached(session, CallRetried)
        assert retried.not_before_us is not None
        name = session.id
    async with Runtime.open(tmp_path / "ostler.db", agents=[agent]) as runtime:
        session = await runtime.session(name)
        view = await session.view()
        assert (view.status, view.waiting_for) == ("waiting", "timer")
        assert len(model.moments) == 1
        assert (await session.result()).text == "done"
        assert model.moments[1] - model.moments[0] >= 0.4
        assert [event.because for event in await events(session) if isinstance(event, CallRetried)][1:] == [
            "its time has come"
        ]
        await replayed(session, runtime)


async def test_a_long_wait_gives_the_session_and_all_places_back() -> None:
    model = Moody(RateLimited("slow", retry_after_s=600))
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=model), "Go.")
        await reached(session, CallRetried)
        worker = runtime._worker
        assert worker is not None
        await worker.let_go(session._stream)
        assert runtime.stages()["models"][0].calls == 1
        assert worker._performer.chain.model_slots.depth == 0
        await session.cancel()
        assert (await session.result()).status == "cancelled"
        assert len(model.moments) == 1


@pytest.mark.parametrize("words", ["bad key", "bad key."])
async def test_what_a_provider_says_and_what_to_do_about_it_are_two_sentences(words: str) -> None:
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=Moody(ProviderRejected(words, hint="Check it."))), "Go.")
        assert (await session.result()).text.endswith("bad key. Check it.")


async def test_a_provider_that_asks_for_more_time_than_there_is_ends_the_call_and_says_so() -> None:
    limits = Limits(retries=Retries(for_s=60))
    async with Runtime.open("memory:") as runtime:
        model = Moody(RateLimited("slow", retry_after_s=7200))
        session = await runtime.start(Agent("clerk", model=model, limits=limits), "Go.")
        result = await session.result()
        assert (result.status, result.reason) == ("failed", "error")
        assert "Another attempt after 7200 s would be later than 60 s." in (await only(session, ModelFailed)).message
        assert len(model.moments) == 1


class Deaf(Moody):
    """A model that never answers the first time, and keeps no time of its own."""

    async def complete(self, request: Any, on_text: Any) -> Reply:
        if not self.moments:
            self.moments.append(0.0)
            await asyncio.Event().wait()
        return await super().complete(request, on_text)


async def test_a_model_that_keeps_no_time_is_stopped_and_asked_again_by_the_schedule_of_all_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "MODEL_GRACE_S", 0.01)
    within = ModelSettings(timeout_s=0.01)
    limits = Limits(retries=Retries(kinds=(Backoff("provider_timeout", base_s=0.5),)))
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=Deaf(), limits=limits).with_settings(within), "Go.")
        assert (await session.result()).text == "done"
        facts = [(one.at_us, one.event) async for one in session.events(follow=False)]
        at_us, retried = next((at_us, event) for at_us, event in facts if isinstance(event, CallRetried))
        assert (retried.code, retried.because) == ("provider_timeout", "provider_timeout: stopped after 0.02 s")
        assert retried.not_before_us is not None
        assert at_us < retried.not_before_us <= at_us + 500_000
        await replayed(session, runtime)

    limits = Limits(retries=Retries(for_s=1e-6))
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=Deaf(), limits=limits).with_settings(within), "Go.")
        assert (await session.result()).status == "failed"
        assert "Another attempt would be later than 1e-06 s." in (await only(session, ModelFailed)).message


def flaky(effect: Any, *kinds: str, **more: Any) -> tuple[Tool[..., Any], list[ToolRequest]]:
    """A tool that fails so before it works, and the requests it got."""
    asked: list[ToolRequest] = []

    async def work(request: ToolRequest) -> str:
        """Work."""
        asked.append(request)
        if len(asked) <= len(kinds):
            raise Failure(kinds[len(asked) - 1], "not now")  # type: ignore[arg-type]
        return "ok"

    return tool(name="work", effect=effect, **more)(work), asked


@pytest.mark.parametrize("effect", ["read", "idempotent", "reconcilable"])
async def test_a_tool_that_fails_for_the_moment_is_called_again_with_the_same_key(effect: str) -> None:
    more = {"reconcile": lambda request: None} if effect == "reconcilable" else {}
    work, asked = flaky(effect, "transient", "transient", **more)
    model = Scripted(calls(("work", {})), "done")
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", tools=[work], model=model, limits=AT_ONCE), "Go.")
        assert (await session.result()).text == "done"
        assert [request.attempt for request in asked] == [1, 2, 3]
        assert len({request.key for request in asked}) == 1
        assert (await only(session, ToolCompleted)).ok
        assert len(model.requests) == 2
        assert "not now" not in str(list(model.requests[1].messages))
        await replayed(session, runtime)


@pytest.mark.parametrize(
    ("effect", "kinds", "attempts", "times"),
    [
        ("read", ["transient"] * 9, 3, 3),
        ("read", ["transient"] * 9, 1, 1),
        ("read", ["permanent"], 3, 1),
        ("read", ["timeout"], 3, 1),
        ("once", ["transient"], 3, 1),
    ],
)
async def test_the_model_hears_of_what_is_final(effect: str, kinds: list[str], attempts: int, times: int) -> None:
    work, asked = flaky(effect, *kinds, attempts=attempts)
    async with Runtime.open("memory:") as runtime:
        model = Scripted(calls(("work", {})), "done")
        session = await runtime.start(Agent("clerk", tools=[work], model=model, limits=AT_ONCE), "Go.")
        await session.result()
        assert len(asked) == times
        outcome = await only(session, ToolCompleted)
        assert (outcome.kind, outcome.output) == (kinds[0], "not now")


async def test_a_once_call_that_is_shed_is_performed_once_when_there_is_room() -> None:
    """The place that it waits for is taken by a call of another session, until that is told to end."""
    release, inside = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    @tool(effect="read")
    async def occupy() -> str:
        """Occupy."""
        inside.set()
        await release.wait()
        return "ok"

    @tool(effect="once")
    async def pay(request: ToolRequest) -> str:
        """Pay."""
        done.append(request.key)
        return "paid"

    settings = settings_of(pressure=Pressure(tool_calls=1, warn_at=0))
    async with Runtime.open(settings) as runtime:
        await runtime.start(
            Agent("first", tools=[occupy], model=Scripted(calls(("occupy", {})), "done", name="first")), "Go."
        )
        await inside.wait()
        limits = Limits(retries=Retries(kinds=(Backoff("shed", base_s=0.001, cap_s=0.001),)))
        agent = Agent("second", tools=[pay], model=Scripted(calls(("pay", {})), "done", name="second"), limits=limits)
        session = await runtime.start(agent, "Go.")
        shed = await reached(session, CallRetried)
        assert (shed.code, shed.attempt, done) == ("shed", 1, [])
        release.set()
        assert (await session.result()).text == "done"
        assert done == [f"{session.id}/1.1"]
        told = [event for event in await events(session) if isinstance(event, ToolRequested | CallRetried)]
        assert told[-1] == CallRetried("1.1", 1, "its time has come")
        await replayed(session, runtime)
        assert runtime.troubles == []


async def test_a_higher_priority_has_places_that_others_do_not() -> None:
    inside, release = asyncio.Event(), asyncio.Event()

    class Slow(Moody):
        """A model that answers when it is told to."""

        async def complete(self, request: Any, on_text: Any) -> Reply:
            inside.set()
            await release.wait()
            return Reply("slow")

    async with Runtime.open(settings_of(pressure=Pressure(model_calls=2, kept=0.5))) as runtime:
        slow = await runtime.start(Agent("slow", model=Slow()), "Go.")
        await inside.wait()
        late = await runtime.start(Agent("late", model=Scripted("late", name="late")), "Go.")
        assert (await reached(late, CallRetried)).code == "shed"
        first = await runtime.start(Agent("first", model=Scripted("first", name="first")), "Go.", priority=1)
        assert (await first.result()).text == "first"
        release.set()
        assert (await slow.result()).text == "slow"
        assert [type(error) for _, error in runtime.troubles] == [OstlerError]


async def test_equal_reads_of_sessions_are_one_and_the_log_says_whose() -> None:
    asked: list[str] = []
    together = asyncio.Event()

    @tool(effect="read", share_s=60)
    async def look(n: int, request: ToolRequest) -> str:
        """Look."""
        asked.append(request.key)
        await together.wait()
        return f"seen {n}"

    async with Runtime.open("memory:") as runtime:
        agent = Agent("clerk", tools=[look], model=Scripted(calls(("look", {"n": 1})), "done"))
        sessions = [await runtime.start(agent, "Go.") for _ in range(5)]
        for session in sessions:
            await reached(session, ToolRequested)
        together.set()
        assert {(await session.result()).text for session in sessions} == {"done"}
        sessions.append(await runtime.start(agent, "Once more."))
        await sessions[-1].result()
        outcomes = [await only(session, ToolCompleted) for session in sessions]
        assert len(asked) == 1
        assert {(outcome.output, outcome.shared_with in ("", asked[0])) for outcome in outcomes} == {("seen 1", True)}
        assert [outcome.shared_with for outcome in outcomes].count("") == 1
        for session in sessions:
            await replayed(session, runtime)


async def test_whoever_shares_an_outcome_sees_of_it_what_the_own_policy_leaves(tmp_path: Path) -> None:
    secret = "ghp_" + "aB3dE6gH9" * 4
    rules = tmp_path / "rules.policy"
    rules.write_text("DEFAULT ALLOW\nREDACT output OF tool.look MATCHING secret.*\n")

    @tool(effect="read", share_s=60)
    async def look(n: int) -> str:
        """Look."""
        return f"the key is {secret}"

    async with Runtime.open("memory:") as runtime:
        for number, names in enumerate((("open", "strict"), ("strict", "open"))):
            said = {}
            for name in names:
                model = Scripted(calls(("look", {"n": number})), "done", name=f"{name}{number}")
                more: dict[str, Any] = {"rules": rules} if name == "strict" else {}
                session = await runtime.start(Agent(name, tools=[look], model=model, **more), "Go.")
                await session.result()
                said[name] = await only(session, ToolCompleted)
            assert bool(said[names[1]].shared_with)
            assert secret in said["open"].output
            assert secret not in said["strict"].output
            assert said["strict"].redacted


async def test_equal_requests_of_a_model_are_paid_for_once() -> None:
    settings = ModelSettings(share_s=60)
    model = Scripted(Reply("done", usage=Usage(10, 5)))
    async with Runtime.open("memory:") as runtime:
        agent = Agent("clerk", model=model).with_settings(settings)
        sessions = [await runtime.start(agent, "Go.") for _ in range(3)]
        assert {(await session.result()).text for session in sessions} == {"done"}
        completed = [await only(session, ModelCompleted) for session in sessions]
        assert sorted(event.usage.total_tokens for event in completed) == [0, 0, 15]
        assert all(bool(event.shared_with) == (event.usage == Usage()) for event in completed)
        assert len(model.requests) == 1
        for session in sessions:
            await replayed(session, runtime)


async def test_what_would_be_taken_out_of_a_reply_is_not_left_in_half_of_one(tmp_path: Path) -> None:
    rules = tmp_path / "rules.policy"
    rules.write_text("REDACT output OF model MATCHING secret.*\n")
    model = Moody(broken_off("the key is sk-ant-api03-"))
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=model, limits=AT_ONCE, rules=rules), "Go.")
        assert (await session.result()).text == "done"
        assert [event.partial for event in await events(session) if isinstance(event, CallRetried)][:1] == [""]


@pytest.mark.parametrize("count", [-1_000_000, 10**30])
async def test_no_count_of_a_provider_gives_money_back_or_breaks_a_sum(count: int, tmp_path: Path) -> None:
    usage = Usage(100, count, count, count)
    model = Scripted(Reply("done", usage=usage, model="m\x1b[2J" + "m" * 999, fingerprint="fp\nfp"))
    model.ref = msgspec.structs.replace(model.ref, price=Price(1_000_000, 1_000_000))
    async with Runtime.open(f"sqlite:///{tmp_path / 'o.db'}") as runtime:
        session = await runtime.start(Agent("clerk", model=model), "Go.")
        assert (await session.result()).text == "done"
        completed = await only(session, ModelCompleted)
        used = TOKENS_MAX if count > 0 else 0
        assert completed.usage == Usage(100, used, used, used)
        assert completed.cost_microusd == 100 + 3 * used
        assert completed.model.startswith("m[2Jmmm")
        assert (len(completed.model), completed.fingerprint) == (NAME_CHARACTERS_MAX, "fpfp")
        await replayed(session, runtime)


@pytest.mark.parametrize(
    "error",
    [ProviderRejected("no\x1b]0;title\x07 way"), ValueError("no\x1b]0;title\x07 way"), broken_off("so\x1b[2J far")],
)
async def test_nothing_that_a_failing_model_says_acts_on_a_terminal(error: Exception) -> None:
    async with Runtime.open("memory:") as runtime:
        agent = Agent("clerk", model=Moody(error), limits=msgspec.structs.replace(AT_ONCE, attempts=1))
        session = await runtime.start(agent, "Go.")
        result = await session.result()
        failed = await only(session, ModelFailed)
        said = failed.message + failed.partial + result.text
        assert "\u241b" in said
        assert acting(said) is None


async def test_a_session_that_is_killed_while_it_waits_is_over() -> None:
    model = Moody(RateLimited("slow", retry_after_s=600))
    async with Runtime.open("memory:") as runtime:
        session = await runtime.start(Agent("clerk", model=model), "Go.")
        await reached(session, ModelRequested)
        await reached(session, CallRetried)
        await session.kill()
        assert (await session.result()).reason == "killed"
        assert (await only(session, ModelFailed)).code == "cancelled"
