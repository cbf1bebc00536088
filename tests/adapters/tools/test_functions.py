"""Python functions as tools: what becomes of their results, errors, threads and cancellation."""

import asyncio
import contextvars
import dataclasses
import datetime
import enum
import subprocess
import sys
import threading
from typing import Annotated, Any, TypedDict

import msgspec
import pydantic
import pytest

from ostler.adapters.tools.composite import Toolbox
from ostler.adapters.tools.functions import Failure, FunctionTools, Tool, tool
from ostler.domain.tool import ToolOutcome, ToolRequest
from ostler.kernel.errors import (
    DefinitionInvalid,
    SandboxUnavailable,
    ToolError,
    ToolNotFound,
    ToolTimeout,
    UsageError,
)
from ostler.testing.contracts.tool_host import Endless, ToolHostContract
from tests.adapters.sandbox.processes import until


def request(name, *, key="ses_1/1.1", **arguments):
    return ToolRequest(tool=name, arguments=arguments, key=key, tenant="default", timeout_s=5.0)


async def perform(made, **arguments):
    return await made.perform(request(made.spec.name, **arguments))


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Box(TypedDict):
    corner: Point


class Address(pydantic.BaseModel):
    city: str
    since: datetime.date | None = None


class Busy(ToolError):
    """Come back later."""

    retryable = True


# Being a tool


def test_a_tool_is_still_the_function_that_it_was():
    @tool
    def double(number: int) -> int:
        """Twice as much."""
        return 2 * number

    assert double(4) == 8
    assert double.__doc__ == "Twice as much."


def test_a_tool_that_says_nothing_of_its_effect_is_never_to_be_repeated():
    @tool
    def pay(cents: int) -> None: ...

    assert pay.spec.effect == "once"


def test_what_the_decorator_is_told_is_in_the_spec():
    @tool(name="shop.stock", effect="read", timeout_s=2.5, scopes=["shop:read"])
    def stock(sku: str) -> None: ...

    spec = stock.spec
    assert (spec.name, spec.effect, spec.timeout_s, spec.scopes) == ("shop.stock", "read", 2.5, ("shop:read",))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"name": "no spaces"}, "name"),
        ({"effect": "sometimes"}, "effect"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"effect": "reconcilable"}, "reconcile"),
        ({"effect": "read", "reconcile": lambda request: None}, "reconcile"),
    ],
)
def test_a_promise_that_makes_no_sense_is_refused_at_definition(options, path):
    with pytest.raises(DefinitionInvalid) as caught:
        tool(**options)(lambda: None)
    assert path in [where for where, _ in caught.value.problems]


def test_two_tools_of_one_name_are_refused():
    def named_a():
        @tool(name="a")
        def a() -> None: ...

        return a

    first, second = named_a(), named_a()
    with pytest.raises(DefinitionInvalid, match="more than one tool"):
        FunctionTools([first, second])
    host = FunctionTools([first])
    host.add(first)
    with pytest.raises(DefinitionInvalid, match="more than one tool"):
        host.add(second)


# Arguments


async def test_arguments_become_the_types_that_the_function_asks_for():
    got = []

    @tool
    async def take(
        when: datetime.datetime, colour: Colour, box: Box, points: list[Point], home: Address, by_id: dict[int, str]
    ) -> None:
        got.extend([when, colour, box, points, home, by_id])

    outcome = await perform(
        take,
        when="2030-01-02T03:04:05Z",
        colour="red",
        box={"corner": {"x": 1}},
        points=[{"x": 2, "y": 3}],
        home={"city": "Ulm", "since": "2020-02-02"},
        by_id={"7": "seven"},
    )
    assert outcome.ok, outcome.output
    assert got == [
        datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        Colour.RED,
        {"corner": Point(1)},
        [Point(2, 3)],
        Address(city="Ulm", since=datetime.date(2020, 2, 2)),
        {7: "seven"},
    ]


@pytest.mark.parametrize(
    "arguments", [{"home": {"city": 4}}, {"home": {}}, {}, {"home": {"city": "Ulm"}, "more": 1}, {"home": "Ulm"}]
)
async def test_arguments_that_do_not_fit_are_refused_before_the_function_runs(arguments):
    ran = []

    @tool
    async def take(home: Address) -> None:
        ran.append(home)

    outcome = await perform(take, **arguments)
    assert (outcome.ok, outcome.kind, ran) == (False, "invalid", [])


async def test_a_parameter_that_is_left_out_has_its_default():
    numbers = [1, 2]

    @tool
    async def add(more: int = 3, to: Annotated[list[int], msgspec.Meta(max_length=9)] = numbers) -> int:
        return sum(to) + more

    assert (await perform(add)).output == "6"
    assert (await perform(add, to=[])).output == "3"


async def test_the_request_is_given_to_who_asks_for_it_and_is_not_shown_to_models():
    @tool
    async def pay(cents: int, call: ToolRequest) -> str:
        return f"{cents} once for {call.key}"

    assert list(pay.spec.parameters["properties"]) == ["cents"]
    assert (await perform(pay, cents=5)).output == "5 once for ses_1/1.1"


# Outcomes


@pytest.mark.parametrize(
    ("value", "output", "is_json"),
    [
        ("text", "text", False),
        (None, "null", True),
        ({"a": [1, 2.5]}, '{"a":[1,2.5]}', True),
        (Point(1, 2), '{"x":1,"y":2}', True),
        (Address(city="Ulm"), '{"city":"Ulm","since":null}', True),
        ([Address(city="Ulm")], '[{"city":"Ulm","since":null}]', True),
        ({1: Colour.RED}, '{"1":"red"}', True),
    ],
)
async def test_what_a_function_returns_is_the_output(value, output, is_json):
    @tool
    async def give() -> object:
        return value

    assert await perform(give) == ToolOutcome(ok=True, output=output, is_json=is_json)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("no such article"), "permanent", "ValueError: no such article"),
        (KeyError("x"), "permanent", "KeyError: 'x'"),
        (ZeroDivisionError(), "permanent", "ZeroDivisionError"),
        (SystemExit(3), "permanent", "SystemExit: 3"),
        (ToolError("broken", hint="Repair it."), "permanent", "broken Repair it."),
        (Busy(), "transient", "Come back later."),
        (ToolTimeout(), "timeout", "The tool did not finish in time and was stopped."),
        (ToolNotFound("gone"), "not_found", "gone"),
        (Failure("blocked", "not here"), "blocked", "not here"),
    ],
)
@pytest.mark.parametrize("style", ["async", "sync"])
async def test_an_error_is_an_outcome_without_a_traceback(style, error, kind, text):
    @tool(name="fail")
    async def fail_async() -> None:
        raise error

    @tool(name="fail")
    def fail_sync() -> None:
        raise error

    outcome = await perform(fail_async if style == "async" else fail_sync)
    assert outcome == ToolOutcome(ok=False, output=text, kind=kind)


async def test_an_iteration_that_ends_in_a_thread_is_an_error_like_any_other():
    @tool
    def take() -> object:
        return next(iter([]))

    outcome = await perform(take)
    assert (outcome.ok, outcome.kind) == (False, "permanent")
    assert "StopIteration" in outcome.output


async def test_a_value_that_says_it_failed_has_failed():
    @tool
    async def fail() -> dict[str, object]:
        return {"ok": False, "error": "sold out"}

    assert await perform(fail) == ToolOutcome(ok=False, output="sold out", kind="permanent")


async def test_a_value_that_is_no_json_is_a_failure_that_says_so():
    @tool
    async def give() -> object:
        return threading.Lock()

    outcome = await perform(give)
    assert outcome.kind == "permanent"
    assert "cannot be written as JSON" in outcome.output


async def test_a_missing_sandbox_is_no_business_of_the_model():
    @tool
    async def run() -> None:
        raise SandboxUnavailable

    with pytest.raises(SandboxUnavailable):
        await perform(run)


# Reconciling


async def test_a_reconcilable_tool_says_what_came_of_a_call():
    sent = {"ses_1/1.1": {"id": 7}}

    @tool(effect="reconcilable", reconcile=lambda call: sent.get(call.key))
    async def send(text: str) -> None: ...

    assert await send.reconcile(request("send", text="x")) == ToolOutcome(ok=True, output='{"id":7}', is_json=True)
    assert await send.reconcile(request("send", key="another", text="x")) is None


async def test_a_reconciliation_that_fails_is_not_taken_for_a_call_that_did_not_happen():
    async def ask(call):
        raise OSError("no connection")

    @tool(effect="reconcilable", reconcile=ask)
    async def send() -> None: ...

    @tool(effect="once")
    async def pay() -> None: ...

    with pytest.raises(ToolError, match="no connection"):
        await send.reconcile(request("send"))
    with pytest.raises(UsageError, match="once"):
        await pay.reconcile(request("pay"))


# Threads


async def test_a_plain_function_runs_beside_the_event_loop_with_the_callers_context():
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place")
    place.set("here")
    loop_thread = threading.current_thread()

    @tool
    def look() -> list[object]:
        return [place.get(), threading.current_thread() is loop_thread, threading.current_thread().daemon]

    assert (await perform(look)).output == '["here",false,true]'


async def test_cancelling_ends_a_loop_in_python_whatever_it_catches():
    begun, ended = threading.Event(), threading.Event()

    @tool
    def spin() -> None:
        begun.set()
        try:
            while True:
                try:
                    "".join([])
                except Exception:
                    continue
        finally:
            ended.set()

    call = asyncio.create_task(perform(spin))
    await until(begun.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended.wait(30)


async def test_cancelling_does_not_wait_for_ever_for_a_thread_that_is_blocked():
    begun, release = threading.Event(), threading.Event()

    @tool
    def block() -> None:
        begun.set()
        release.wait()

    call = asyncio.create_task(perform(block))
    await until(begun.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    release.set()


async def test_cancelling_a_coroutine_is_seen_by_it():
    begun, seen = asyncio.Event(), []

    @tool
    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(True)
            raise

    call = asyncio.create_task(perform(wait))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert seen == [True]


def test_a_hung_tool_does_not_keep_the_interpreter_from_exiting():
    program = """
import asyncio, threading
from ostler.adapters.tools.functions import tool
from ostler.domain.tool import ToolRequest

begun = threading.Event()

@tool
def hang() -> None:
    begun.set()
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

async def main():
    call = asyncio.create_task(hang.perform(ToolRequest("hang", {}, "k", "t", 1.0)))
    while not begun.is_set():
        await asyncio.sleep(0)
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        print("cancelled")

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "cancelled\n", "")


# Several hosts as one


async def test_a_toolbox_passes_each_call_to_its_host_also_those_added_later():
    @tool
    async def one() -> str:
        return "one"

    @tool
    async def two() -> str:
        return "two"

    functions = FunctionTools([])
    box = Toolbox([functions, FunctionTools([one])])
    functions.add(two)
    assert (await box.perform(request("one"))).output == "one"
    assert (await box.perform(request("two"))).output == "two"
    assert [spec.name for spec in box.specs()] == ["two", "one"]


def test_a_toolbox_refuses_hosts_that_share_a_name():
    @tool
    async def one() -> None: ...

    with pytest.raises(DefinitionInvalid, match="one"):
        Toolbox([FunctionTools([one]), FunctionTools([one])])


def _spinning() -> tuple[Tool[..., Any], threading.Event, threading.Event]:
    begun, ended = threading.Event(), threading.Event()

    @tool
    def spin() -> None:
        """Never ends by itself."""
        begun.set()
        try:
            while True:
                "".join([])
        finally:
            ended.set()

    return spin, begun, ended


@tool(effect="read")
async def stock(sku: str, shelf: int | None = None, sizes: tuple[str, ...] = ("S", "M")) -> dict[str, int]:
    """How many are left."""
    return {sku: 4}


class TestFunctionToolsKeepTheContract(ToolHostContract):
    def make(self):
        self.spin, self.begun, self.ended = _spinning()
        return FunctionTools([stock, self.spin])

    def harmless(self, folder):
        return request("stock", sku="A-17")

    def endless(self, folder):
        return Endless(request("spin"), self.begun.is_set, lambda: not self.ended.is_set())


class TestAToolboxKeepsTheContract(TestFunctionToolsKeepTheContract):
    def make(self):
        return Toolbox([super().make()])
