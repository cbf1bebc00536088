"""Sessions over a real provider adapter and a server that fails in every way: the session ends right, nothing that is
half done is executed, every attempt that was paid for is counted once, and the events tell what happened.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostler import Agent, Runtime, Session, tool
from ostler.app.breakers import BreakerTable, BreakerTables
from ostler.app.settings import ProjectFile, resolve
from ostler.domain.agent import Limits
from ostler.domain.model import AskedCall, ModelSettings, Price, Reply, Usage
from ostler.domain.resilience.retry import Retries
from ostler.domain.session.events import CallRetried, ModelCompleted, ModelFailed, SessionEvent, ToolCompleted
from ostler.runtime.replay import replay
from ostler.testing.wire import JSON, Answer, Asked, WireServer, stream
from ostler.views.calls import calls as calls_of
from tests.runtime.watching import events, only, reached

ANTHROPIC, CHAT, RESPONSES, GOOGLE = "anthropic:m", "openai-chat:m", "openai-responses:m", "google:m"
DIALECTS = [ANTHROPIC, CHAT, RESPONSES, GOOGLE]
SOON = Retries(base_s=1e-6, cap_s=1e-6)
PATIENT = BreakerTables(providers={"*": BreakerTable(failures=1_000_000, calls_min=1_000_000)})
"""Breakers that these sweeps of failures do not open."""
PRICE = Price(3_000_000, 15_000_000)
REFUSED = b'{"error":{"type":"x","message":"not now"}}'
LOOK = Reply("Let me look: ü.", (AskedCall("c1", "look", '{"item": "B-2", "n": 12}'),), "tool_calls", Usage(100, 20))
DONE = Reply("12 left", usage=Usage(150, 10))


class House:
    """A server that fails, and a runtime whose sessions are driven over it."""

    def __init__(self, server: WireServer, runtime: Runtime) -> None:
        self.server = server
        self.runtime = runtime
        self.looked: list[tuple[str, int]] = []

        @tool(effect="read")
        def look(item: str, n: int) -> str:
            """Look."""
            self.looked.append((item, n))
            return "seen"

        self._look = look

    async def start(
        self,
        *answers: Answer | Reply,
        model: str = CHAT,
        price: Price | None = None,
        timeout_s: float = 20,
        **more: Any,
    ) -> Session:
        self.server.answers(*answers)
        limits = Limits(**{"attempts": 6, "retries": SOON, **more})
        agent = Agent("clerk", tools=[self._look], limits=limits).with_settings(
            ModelSettings(max_tokens=500, timeout_s=timeout_s)
        )
        chosen = (await self.runtime.choose_model(agent, model)).model
        return await self.runtime.start(agent, "Go.", model=msgspec.structs.replace(chosen, price=price))

    async def told(self, session: Session) -> list[CallRetried]:
        """Every failure after which the model was asked again."""
        return [event for event in await events(session) if isinstance(event, CallRetried) and event.code]

    async def replayed(self, session: Session) -> None:
        state = replay(await self.runtime.parts.journal.records(session._stream)).state
        assert state.end is not None
        assert state.usage.total_tokens == sum(used(event).total_tokens for event in await events(session))


def used(event: SessionEvent) -> Usage:
    return event.usage if isinstance(event, ModelCompleted | ModelFailed | CallRetried) else Usage()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with WireServer() as server:
        keys = {
            "OPENAI_API_KEY": "sk-test-0123456789",
            "OPENAI_BASE_URL": f"{server.url}/v1",
            "ANTHROPIC_API_KEY": "sk-test-0123456789",
            "ANTHROPIC_BASE_URL": server.url,
            "GOOGLE_API_KEY": "sk-test-0123456789",
            "GOOGLE_GEMINI_BASE_URL": server.url,
        }
        settings = resolve(keys, Path("/"), store="memory:", project=ProjectFile(breakers=PATIENT))
        async with Runtime.open(settings) as runtime:
            yield House(server, runtime)


def refusal(status: int, **headers: str) -> Answer:
    return Answer((REFUSED,), status, JSON, {name.replace("_", "-"): value for name, value in headers.items()})


def body_of(reply: Reply, model: str) -> bytes:
    """The whole stream of a reply, as the server sends it to a session of this file."""
    path = {ANTHROPIC: "/v1/messages", CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses"}.get(
        model, "/v1beta/models/m:streamGenerateContent"
    )
    return b"".join(stream(reply, Asked("POST", path, {}, b'{"model":"m","tools":[]}')))


@pytest.mark.fault(17)
@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("model", DIALECTS)
async def test_what_may_pass_later_is_asked_again_and_counted_once(house: House, model: str, status: int) -> None:
    session = await house.start(refusal(status), refusal(status), DONE, model=model, price=PRICE, tokens=100_000)
    assert (await session.result()).text == "12 left"
    told = await house.told(session)
    assert [(event.attempt, event.status) for event in told] == [(2, status), (3, status)]
    assert [event.not_before_us is not None for event in told] == [True, True]
    assert len(house.server.asked) == 3
    completed = await only(session, ModelCompleted)
    assert completed.usage.total_tokens == 160
    if status not in (408, 504):  # then nobody knows whether the model had begun
        assert (await session.view()).tokens == 160
    await house.replayed(session)


@pytest.mark.fault(17)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
@pytest.mark.parametrize("model", DIALECTS)
async def test_what_can_never_pass_is_asked_once(house: House, model: str, status: int) -> None:
    session = await house.start(refusal(status), DONE, model=model)
    result = await session.result()
    assert (result.status, result.reason) == ("failed", "error")
    assert (await only(session, ModelFailed)).status == status
    assert len(house.server.asked) == 1
    await house.replayed(session)


def in_an_hour(header: Callable[[datetime], str]) -> str:
    return header(datetime.now(UTC) + timedelta(hours=1))


FORMS: dict[str, Callable[[], dict[str, str]]] = {
    "seconds": lambda: {"retry_after": "3600"},
    "fraction": lambda: {"retry_after": "3600.5"},
    "milliseconds": lambda: {"retry_after_ms": "3600000"},
    "date": lambda: {"retry_after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)},
    "date and clock": lambda: {
        "retry_after": "Wed, 21 Oct 2015 08:28:00 GMT",
        "date": "Wed, 21 Oct 2015 07:28:00 GMT",
    },
}


@pytest.mark.fault(17)
@pytest.mark.parametrize("form", FORMS)
async def test_a_session_waits_as_long_as_the_provider_asks_in_whichever_form(house: House, form: str) -> None:
    session = await house.start(refusal(429, **FORMS[form]()), retries=Retries(base_s=1e-6, for_s=7200))
    happened = [happening async for happening in session.events(follow=False)]
    while not any(isinstance(one.event, CallRetried) for one in happened):
        await asyncio.sleep(0.001)
        happened = [happening async for happening in session.events(follow=False)]
    (retried,) = [one for one in happened if isinstance(one.event, CallRetried)]
    assert isinstance(retried.event, CallRetried)
    assert retried.event.not_before_us is not None
    assert (retried.event.not_before_us - retried.at_us) / 1e6 == pytest.approx(3600, abs=5)
    assert (await session.view()).waiting_for == "timer"
    await session.cancel()
    assert (await session.result()).status == "cancelled"


@pytest.mark.fault(17)
@pytest.mark.parametrize("value", ["soon", "-5", "nan", "1e999", ""])
async def test_a_wait_that_makes_no_sense_is_as_good_as_none(house: House, value: str) -> None:
    session = await house.start(refusal(429, retry_after=value), DONE)
    assert (await session.result()).text == "12 left"


@pytest.mark.fault(17)
async def test_a_session_whose_provider_is_not_there_gives_up_after_its_attempts_and_has_cost_nothing(
    house: House,
) -> None:
    known = (await house.runtime.choose_model(Agent("clerk"), CHAT)).model
    nowhere = msgspec.structs.replace(known, base_url="http://127.0.0.1:9/v1", price=PRICE)
    limits = Limits(attempts=3, retries=SOON, tokens=100_000)
    session = await house.runtime.start(Agent("clerk", limits=limits), "Go.", model=nowhere)
    assert (await session.result()).status == "failed"
    assert [event.code for event in await house.told(session)] == ["provider_unreachable"] * 2
    assert (await only(session, ModelFailed)).code == "provider_unreachable"
    assert (await session.view()).tokens == 0
    await house.replayed(session)


@pytest.mark.fault(18)
@pytest.mark.parametrize("model", DIALECTS)
async def test_a_stream_that_is_cut_at_every_byte_runs_nothing_until_it_comes_whole(house: House, model: str) -> None:
    """One session, whose first reply breaks off at each of its bytes in turn before it comes whole."""
    body = body_of(LOOK, model)
    cuts = [Answer((body[:place],), then="cut") for place in range(last_byte(body, model))]
    attempts = len(cuts) + 5
    session = await house.start(*cuts, LOOK, DONE, model=model, attempts=attempts, steps=2)
    assert (await session.result()).text == "12 left"
    assert house.looked == [("B-2", 12)]
    told = await house.told(session)
    assert len(told) == len(cuts)
    assert {event.code for event in told} <= {"incomplete_reply", "provider_garbled"}
    partial = [event.partial for event in told]
    assert all("Let me look: ü.".startswith(text) for text in partial)
    assert max(partial, key=len) == "Let me look: ü."
    asked = [event.usage.input_tokens for event in told]
    assert min(asked) > 0
    assert (await only(session, ToolCompleted)).ok
    await house.replayed(session)


def last_byte(body: bytes, model: str) -> int:
    """Up to where a reply may be cut: what comes after its last word is only the end of the transport."""
    marks = {ANTHROPIC: b'"message_stop"}', CHAT: b"[DONE]", RESPONSES: b'"response.completed"'}
    mark = marks.get(model)
    return body.rindex(b"}") if mark is None or model == RESPONSES else body.rindex(mark) + len(mark)


@pytest.mark.fault(18)
async def test_silence_ends_with_the_time_of_the_call_and_is_counted_as_the_worst(house: House) -> None:
    body = body_of(LOOK, CHAT)
    silent = Answer((body[:200],), then="silence")
    session = await house.start(silent, DONE, timeout_s=0.15, tokens=50_000, price=PRICE)
    assert (await session.result()).text == "12 left"
    (told,) = await house.told(session)
    assert told.code == "provider_timeout"
    assert told.usage.output_tokens == 500
    await house.replayed(session)


GARBAGE = {
    "bad UTF-8": lambda body: (body[:120] + b"\xff\xfe" + body[120:],),
    "no JSON": lambda body: (body.replace(b'"choices"', b'"choices', 3),),
    "no end": lambda body: (body.replace(b"data: [DONE]\n\n", b""),),
    "no reason to stop": lambda body: (
        body.replace(b'"tool_calls","index"', b"null").replace(
            b'"finish_reason":"tool_calls"', b'"finish_reason":null'
        ),
    ),
    "an error in the stream": lambda body: (
        body[: body.index(b"data:", 400)],
        b'data: {"error":{"message":"boom"}}\n\n',
    ),
    "nothing": lambda body: (b"\n",),
    "HTML": lambda body: (b"<html>gateway</html>",),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("form", GARBAGE)
async def test_what_is_no_reply_is_asked_for_again_and_nothing_of_it_is_run(house: House, form: str) -> None:
    session = await house.start(Answer(GARBAGE[form](body_of(LOOK, CHAT))), DONE)
    assert (await session.result()).text == "12 left"
    (told,) = await house.told(session)
    assert told.code in ("incomplete_reply", "provider_garbled", "provider_overloaded")
    assert house.looked == []
    await house.replayed(session)


@pytest.mark.fault(18)
async def test_chunks_that_come_twice_run_nothing_twice(house: House) -> None:
    chunks = stream(LOOK, Asked("POST", "/v1/chat/completions", {}, b'{"model":"m","tools":[]}'))
    for place in range(len(chunks)):
        twice = Answer((*chunks[: place + 1], *chunks[place:]))
        before = len(house.looked)
        session = await house.start(twice, *[DONE] * 3)
        assert (await session.result()).text == "12 left"
        assert len(house.looked) - before <= 1
        house.server._answers.clear()
        await house.replayed(session)


def asks(*calls: tuple[str, str, str]) -> Reply:
    return Reply("", tuple(AskedCall(*call) for call in calls), "tool_calls", Usage(100, 20))


GOOD = '{"item": "B-2", "n": 12}'
NONSENSE: dict[str, tuple[Reply, int, int]] = {
    "a tool that is not there": (asks(("c1", "lok", GOOD)), 0, 1),
    "arguments that are no JSON": (asks(("c1", "look", '{"item": ')), 0, 1),
    "arguments that do not fit": (asks(("c1", "look", '{"item": 3}')), 0, 1),
    "an id that comes twice": (asks(("c1", "look", GOOD), ("c1", "look", GOOD)), 2, 0),
    "fifty calls at once": (asks(*[(f"c{n}", "look", GOOD) for n in range(50)]), 50, 0),
    "no answer at all": (Reply("", usage=Usage(100, 20)), 0, 0),
}


@pytest.mark.fault(19)
@pytest.mark.parametrize("what", NONSENSE)
@pytest.mark.parametrize("model", [ANTHROPIC, CHAT])
async def test_a_model_that_talks_nonsense_is_told_so_and_may_mend_it(house: House, model: str, what: str) -> None:
    reply, looked, refused = NONSENSE[what]
    session = await house.start(reply, DONE, model=model)
    assert (await session.result()).text == "12 left"
    assert len(house.looked) == looked
    view = await session.view()
    assert view.tokens == 280
    calls = [call for call in calls_of(await house.runtime.parts.journal.facts(session._stream)) if call.tool]
    assert len({call.call for call in calls}) == len(calls) == looked + refused
    assert [call.stage for call in calls].count("refused") == refused
    assert await house.told(session) == []
    await house.replayed(session)


@pytest.mark.fault(20)
async def test_a_reply_without_usage_is_counted_with_what_was_reserved_for_it(house: House) -> None:
    body = body_of(DONE, CHAT)
    lines = [line for line in body.split(b"\n\n") if b'"usage":{' not in line]
    session = await house.start(Answer((b"\n\n".join(lines),)), price=PRICE, cost_microusd=1_000_000)
    assert (await session.result()).text == "12 left"
    completed = await only(session, ModelCompleted)
    assert completed.usage.output_tokens == 500
    assert completed.cost_microusd >= 500 * 15
    await house.replayed(session)


SCRIPT = """
import asyncio, sys
from pathlib import Path
from ostler import Agent, Runtime
from ostler.app.settings import ProjectFile, resolve
from ostler.domain.agent import Limits
from ostler.domain.model import ModelSettings, Price

async def main(store, url):
    prices = ProjectFile(prices=dict.fromkeys(("openai:m", "openai-chat:m"), Price(3_000_000, 15_000_000)))
    keys = {"OPENAI_API_KEY": "sk-test-0123456789", "OPENAI_BASE_URL": url}
    settings = resolve(keys, Path("/"), store=store, project=prices)
    async with Runtime.open(settings) as runtime:
        agent = Agent("clerk", limits=Limits(tokens=50_000)).with_settings(ModelSettings(max_tokens=500))
        session = await runtime.start(agent, "Go.", model="openai-chat:m")
        print(session.id, flush=True)
        await session.result()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.fault(20)
async def test_an_attempt_whose_worker_is_killed_before_it_settles_is_counted_beside_the_next(tmp_path: Path) -> None:
    """The server has begun to answer, and so charges for it; who asked is killed before the reply is recorded."""
    store = f"sqlite:///{tmp_path / 'ostler.db'}"
    async with WireServer() as server:
        server.answers(Answer((body_of(DONE, CHAT)[:-20],), then="silence"), DONE)
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SCRIPT, store, f"{server.url}/v1", stdout=asyncio.subprocess.PIPE
        )
        assert asking.stdout is not None
        name = (await asking.stdout.readline()).decode().strip()
        await server.request(1)
        os.kill(asking.pid, signal.SIGKILL)
        await asking.wait()
        settings = resolve(
            {"OPENAI_API_KEY": "sk-test-0123456789", "OPENAI_BASE_URL": f"{server.url}/v1"}, Path("/"), store=store
        )
        async with Runtime.open(settings, agents=[Agent("clerk")]) as runtime:
            session = await runtime.session(name)
            assert (await session.result()).text == "12 left"
            lost = await reached(session, CallRetried)
            assert (lost.because, lost.attempt, lost.usage.output_tokens) == ("worker lost", 2, 500)
            assert lost.cost_microusd >= 500 * 15
            view = await session.view()
            assert view.tokens == lost.usage.total_tokens + 160
            assert len(server.asked) == 2
            assert replay(await runtime.parts.journal.records(session._stream)).state.end is not None
