"""What every attempt passes: places, equal calls, breakers, in this order and with nothing left behind."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from ostler.domain.model import Image, ModelRequest, Reply, UserMessage
from ostler.domain.resilience.breaker import Breaker, Key
from ostler.domain.resilience.pressure import Pressure
from ostler.domain.resilience.sharing import key_of_model, key_of_tool
from ostler.domain.tool import ToolOutcome, failed, succeeded
from ostler.kernel.errors import CircuitOpen, ProviderOverloaded, ProviderRejected, RateLimited, Shed, ToolTimeout
from ostler.runtime.resilience.chain import Chain
from ostler.runtime.resilience.pipeline import origin_of
from tests.runtime.resilience.conftest import LOOK, REF, circuits, request, state, use

STATE = state()
TWICE = Breaker(failures=2, recovery_s=3600)


def raising(error: BaseException) -> Callable[[], Awaitable[Reply]]:
    async def call() -> Reply:
        raise error

    return call


def giving(outcome: ToolOutcome) -> Callable[[], Awaitable[ToolOutcome]]:
    async def call() -> ToolOutcome:
        return outcome

    return call


async def reply() -> Reply:
    return Reply("done")


async def test_a_provider_that_keeps_failing_is_left_alone_and_the_error_says_until_when() -> None:
    chain = Chain(circuits=circuits(TWICE))
    for _ in range(2):
        with pytest.raises(ProviderOverloaded):
            await chain.ask(STATE, request("a"), raising(ProviderOverloaded("down")))
    with pytest.raises(CircuitOpen, match="provider scripted is open until") as refused:
        await chain.ask(STATE, request("a"), reply)
    assert refused.value.retry_after_s == pytest.approx(3600, abs=60)
    origin = origin_of(refused.value)
    assert origin is not None
    assert (origin.stage, origin.given.name) == ("breaker", "a")
    assert [(one.stage, one.calls, one.failures) for one in chain.timings()["models"]] == [
        ("pressure", 3, 0),
        ("sharing", 3, 0),
        ("breaker", 3, 1),
        ("call", 2, 2),
    ]
    assert chain.model_slots.depth == 0


@pytest.mark.parametrize("error", [RateLimited("slow"), ProviderRejected("no"), asyncio.CancelledError(), OSError()])
async def test_what_says_nothing_of_the_provider_opens_no_breaker(error: BaseException) -> None:
    chain = Chain(circuits=circuits(TWICE))
    for _ in range(5):
        with pytest.raises(type(error)):
            await chain.ask(STATE, request("a"), raising(error))
    assert (await chain.ask(STATE, request("a"), reply)).value == Reply("done")


@pytest.mark.parametrize("kind", ["transient", "timeout"])
async def test_a_tool_that_keeps_failing_is_left_alone(kind) -> None:
    chain = Chain(circuits=circuits(TWICE))
    for _ in range(2):
        await chain.use(STATE, LOOK, use("a"), giving(failed(kind, "down")))
    with pytest.raises(CircuitOpen, match="tool look"):
        await chain.use(STATE, LOOK, use("a"), giving(succeeded("up")))


@pytest.mark.parametrize("kind", ["permanent", "invalid", "not_found", "blocked"])
async def test_a_tool_that_says_what_is_wrong_works(kind) -> None:
    chain = Chain(circuits=circuits(TWICE))
    for _ in range(5):
        assert (await chain.use(STATE, LOOK, use("a"), giving(failed(kind, "no")))).value.kind == kind


async def test_a_tool_that_has_to_be_stopped_when_its_time_is_up_has_failed() -> None:
    chain, slow = Chain(circuits=circuits(TWICE)), msgspec.structs.replace(LOOK, timeout_s=0.005, share_s=None)

    async def hang() -> ToolOutcome:
        await asyncio.Event().wait()
        raise AssertionError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await chain.use(STATE, slow, use("a"), hang)
    with pytest.raises(CircuitOpen):
        await chain.use(STATE, slow, use("a"), hang)
    with pytest.raises(ToolTimeout):
        await Chain(circuits=circuits()).use(STATE, slow, use("a"), raising(ToolTimeout("slow")))  # type: ignore[arg-type]


async def test_a_call_that_is_shed_reaches_neither_the_others_nor_the_breaker() -> None:
    chain = Chain(Pressure(model_calls=1), circuits(TWICE))
    gate = asyncio.Event()

    async def wait() -> Reply:
        await gate.wait()
        return Reply("done")

    first = asyncio.create_task(chain.ask(STATE, request("a", share_s=0), wait))
    await asyncio.sleep(0)
    for _ in range(5):
        with pytest.raises(Shed):
            await chain.ask(STATE, request("b", share_s=0), reply)
    gate.set()
    assert (await first).value == Reply("done")
    counts = {one.stage: (one.calls, one.failures) for one in chain.timings()["models"]}
    assert counts == {"pressure": (6, 5), "sharing": (1, 0), "breaker": (1, 0), "call": (1, 0)}


async def test_those_who_share_are_judged_once() -> None:
    chain, gate = Chain(circuits=circuits(TWICE)), asyncio.Event()

    async def fail() -> Reply:
        await gate.wait()
        raise ProviderOverloaded("down")

    asked = [asyncio.create_task(chain.ask(STATE, request(f"ses_{n}/1", share_s=0), fail)) for n in range(10)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert (await chain.ask(STATE, request("b"), reply)).value == Reply("done")


OTHERS: dict[str, Callable[[ModelRequest], ModelRequest]] = {
    "model": lambda asked: msgspec.structs.replace(asked, model=msgspec.structs.replace(REF, name="n")),
    "system": lambda asked: msgspec.structs.replace(asked, system="other"),
    "messages": lambda asked: msgspec.structs.replace(asked, messages=[*asked.messages, UserMessage("More.")]),
    "images": lambda asked: msgspec.structs.replace(
        asked, messages=[UserMessage("Go.", (Image("0" * 64, 3, "image/png"),))]
    ),
    "tools": lambda asked: msgspec.structs.replace(asked, tools=(LOOK,)),
    "settings": lambda asked: msgspec.structs.replace(
        asked, settings=msgspec.structs.replace(asked.settings, temperature=0.5)
    ),
    "returns": lambda asked: msgspec.structs.replace(asked, returns={"type": "string"}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_requests_are_equal_only_if_everything_but_the_session_is(what: str) -> None:
    asked = request("ses_1/1", share_s=0)
    assert key_of_model("acme", asked) == key_of_model("acme", request("ses_2/7", share_s=0)) is not None
    assert key_of_model("acme", OTHERS[what](asked)) != key_of_model("acme", asked)


def test_nothing_is_equal_across_tenants_folders_or_tools_and_nothing_is_shared_that_is_not_to_be() -> None:
    asked = use("ses_1/1.1", workspace="/a")
    keys = {
        key_of_tool(LOOK, asked),
        key_of_tool(LOOK, msgspec.structs.replace(asked, tenant="acme")),
        key_of_tool(LOOK, msgspec.structs.replace(asked, workspace="/b")),
        key_of_tool(LOOK, msgspec.structs.replace(asked, arguments={"n": 1})),
        key_of_tool(LOOK, msgspec.structs.replace(asked, tool="see")),
        key_of_model("default", request("a", share_s=0)),
        key_of_model("acme", request("a", share_s=0)),
    }
    assert len(keys) == 7
    assert None not in keys
    assert key_of_tool(LOOK, asked) == key_of_tool(LOOK, msgspec.structs.replace(asked, key="ses_2/9.9", attempt=3))
    assert key_of_tool(msgspec.structs.replace(LOOK, share_s=None), asked) is None
    assert key_of_tool(msgspec.structs.replace(LOOK, effect="once"), asked) is None
    assert key_of_tool(msgspec.structs.replace(LOOK, roles=("recalls",)), asked) is None, "each session has its own"
    assert key_of_model("acme", request("a")) is None


async def test_breakers_of_one_tenant_are_not_those_of_another() -> None:
    asked = circuits(TWICE)
    for _ in range(2):
        await asked.report(await asked.admit(Key("acme", "provider", "scripted")), "failed")
    assert (await Chain(circuits=asked).ask(STATE, request("a"), reply)).value == Reply("done")
