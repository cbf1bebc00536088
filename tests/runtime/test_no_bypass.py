"""Nothing reaches the world but through the gate: every call of a tool or a model has an intent with a verdict before.

The witness stands where the world begins, and looks at the log at that very moment. Taking the gate away from any one
path is seen by it, which is tested as well.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ostler
from ostler import ports
from ostler.adapters.store.memory import MemoryBlobStore, MemoryStore
from ostler.adapters.tools.code import CodeTools
from ostler.adapters.tools.composite import Toolbox
from ostler.adapters.tools.files import FileTools
from ostler.adapters.tools.functions import FunctionTools, tool
from ostler.adapters.tools.shell import ShellTools
from ostler.domain import gate
from ostler.domain.agent import AgentSpec
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.verdict import Verdict
from ostler.domain.identity import LOCAL_USER
from ostler.domain.scheduling import WorkerSettings
from ostler.domain.session import commands as command
from ostler.domain.session.events import SESSION_CODEC, CallRetried, ModelRequested, ToolRequested, ToolResumed
from ostler.domain.session.state import ENDED
from ostler.domain.tool import ToolOutcome, ToolRequest, succeeded
from ostler.kernel.event import StreamId
from ostler.ports import ToolHost
from ostler.runtime.journal import Journal
from ostler.runtime.performer import Performer
from ostler.runtime.worker import Worker
from ostler.testing import Scripted, calls
from tests.runtime.crash import Chance, Clock

STREAM = StreamId("default", "ses_witnessed")
WORLD = {"ModelProvider", "ToolHost"}
"""The ports through which something is done to or asked of the world for an agent."""
HOUSE = {
    "BlobStore",
    "Breakers",
    "Clock",
    "Entropy",
    "EventBus",
    "EventStore",
    "Ledger",
    "Limiter",
    "LiveReply",
    "LiveText",
    "Vault",
    "ViewStore",
}
"""The ports by which the runtime keeps its own house. No agent asks anything of them."""


class Bypassed(AssertionError):
    """Something reached the world without an intent that names the policy which let it pass."""


class Witness:
    """Stands before the tools and the models, and looks at the log whenever one of them is called."""

    def __init__(self, store: MemoryStore, tools: ToolHost, model: Scripted) -> None:
        self.seen: list[str] = []
        self.bypassed: list[str] = []
        self._store = store
        self._tools = tools
        self._model = model

    async def _look(self, what: str, call: str) -> None:
        """The log must hold the intent, with its verdict, now."""
        self.seen.append(what)
        records = await self._store.read(STREAM)
        events = [SESSION_CODEC.decode(record.data) for record in records]
        intents = [
            event
            for event in events
            if isinstance(event, ToolRequested | ModelRequested) and event.call == call.removeprefix(f"{STREAM.name}/")
        ]
        if not any(intent.policy.startswith("house@1/") for intent in intents):
            self.bypassed.append(what)

    def specs(self) -> Any:
        return self._tools.specs()

    async def perform(self, request: ToolRequest) -> ToolOutcome:
        await self._look(request.tool, request.key)
        if request.tool in ("shell.run", "files.write", "files.edit", "files.read", "files.list", "files.search"):
            return succeeded("done")  # what they do is not the question here, only whether they are asked
        return await self._tools.perform(request)

    async def reconcile(self, request: ToolRequest) -> ToolOutcome | None:
        await self._look(f"reconcile {request.tool}", request.key)
        return await self._tools.reconcile(request)

    async def complete(self, request: Any, on_text: Callable[[str], None]) -> Any:
        await self._look("model", request.key)
        return await self._model.complete(request, on_text)

    async def close(self) -> None:
        """There is nothing to let go of."""


@tool(name="look")
def look() -> str:
    """Look."""
    return "seen"


@tool(name="book", effect="reconcilable", reconcile=lambda request: None)
def book() -> str:
    """Book."""
    return "booked"


ARGUMENTS: dict[str, dict[str, Any]] = {
    "files.edit": {"path": "a", "old": "b", "new": "c"},
    "files.read": {"path": "a"},
    "files.search": {"pattern": "a"},
    "files.write": {"path": "a", "content": "b"},
    "shell.run": {"argv": ["true"]},
    "code.run": {"code": "look()"},
}


def everything() -> Toolbox:
    return Toolbox([FunctionTools([look, book]), FileTools(), ShellTools({}), CodeTools()])


async def run(*, lose_first: bool = False) -> Witness:
    """A session that asks for every tool that there is, witnessed."""
    store, clock, box = MemoryStore(), Clock(), everything()
    specs = tuple(box.specs())
    asked = calls(*[(spec.name, ARGUMENTS.get(spec.name, {})) for spec in specs])
    witness = Witness(store, box, Scripted(asked, "done"))
    agent = AgentSpec("clerk", tools=specs, policy=Policy("house", text="policy house version 1 default allow"))
    journal = Journal(store)
    start = command.Start(clock.now_us(), STREAM.name, agent, witness._model.ref, "Go.", LOCAL_USER)
    session = await journal.start(STREAM.tenant, start)
    if lose_first:
        await lose(journal, session, clock)
    performer = Performer(lambda ref: witness, witness, MemoryBlobStore(), clock, Chance())
    worker = Worker(
        journal=journal,
        performer=performer,
        clock=clock,
        entropy=Chance(),
        settings=WorkerSettings(sweep_s=0.01),
        trouble=lambda stream, error: witness.bypassed.append(str(error)),
    )
    await worker.start()
    while True:
        position = await store.head()
        (info,) = await store.streams(STREAM.tenant, prefix=STREAM.name)
        if info.standing.status in ENDED:
            break
        await store.wait(after=position, timeout_s=0.05)
    await worker.stop()
    await box.close()
    return witness


async def lose(journal: Journal, session: Any, clock: Clock) -> None:
    """Another worker had begun a reconcilable call, and is gone."""
    await journal.execute(session, command.Proceed(clock.now_us()))
    reply = calls(("book", {}))
    await journal.execute(session, command.ReplyReceived(clock.now_us(), "1", reply))


async def test_every_tool_model_and_program_that_is_called_has_an_intent_with_a_verdict() -> None:
    witness = await run()
    assert witness.bypassed == []
    assert set(witness.seen) == {"model", *[spec.name for spec in everything().specs()]}
    assert witness.seen.count("look") == 2  # once by the model, once by the program


async def test_a_call_that_is_asked_after_has_one_too() -> None:
    witness = await run(lose_first=True)
    assert witness.bypassed == []
    assert "reconcile book" in witness.seen


@pytest.mark.parametrize("path", ["judge", "judge_model"])
async def test_the_witness_sees_when_the_gate_is_taken_away_from_a_path(path: str, monkeypatch) -> None:
    def wave_through(state: Any, *rest: Any) -> gate.Passed:
        arguments = msgspec.json.decode(rest[0].arguments) if path == "judge" else {}
        return gate.Passed(arguments, Verdict("allow"))

    monkeypatch.setattr(gate, path, wave_through)
    assert (await run()).bypassed != []


async def test_the_witness_sees_a_call_without_an_intent() -> None:
    store = MemoryStore()
    witness = Witness(store, everything(), Scripted())
    await witness.perform(ToolRequest("look", {}, f"{STREAM.name}/1.1", "default", 1.0))
    assert witness.bypassed == ["look"]


def test_every_port_is_known_to_act_for_agents_or_not() -> None:
    """A new port by which agents reach the world must be witnessed above."""
    found = {
        name for name, value in vars(ports).items() if getattr(value, "_is_protocol", False) and name != "Protocol"
    }
    assert found == WORLD | HOUSE


SOURCE = Path(ostler.__file__).parent
DOORS = {"perform": "tools", "reconcile": "tools", "complete": "provider"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith("testing/"):
            yield name, ast.parse(path.read_text("utf-8"))


def test_only_the_performer_opens_the_doors_to_the_world() -> None:
    """Hosts call the hosts and functions that they are made of; above the adapters there is only the performer."""
    callers = {
        name
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in DOORS
        and not name.startswith("adapters/")
    }
    assert callers == {"runtime/performer.py", "runtime/runner.py"}
    runner = inspect.getsource(__import__("ostler.runtime.runner", fromlist=["Runner"]))
    assert runner.count(".perform(") == runner.count("self._performer.perform(")


def test_what_is_shown_live_comes_from_calls_that_the_gate_let_pass_and_back_to_people_alone() -> None:
    """Nothing that decides or performs reads it, and nothing but a model that is asked says it."""
    users = {
        (name, node.func.attr)
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr == "watch" or (node.func.attr == "begin" and "live" in ast.unparse(node.func.value)))
        and not name.startswith("adapters/")
    }
    assert users == {("runtime/performer.py", "begin"), ("app/session.py", "watch")}


def test_breakers_are_asked_about_attempts_within_the_chain_alone() -> None:
    """They refuse what the gate let pass, and let nothing pass that it did not: there is no call in them."""
    source = {name for name, module in modules() for node in ast.walk(module) if _asks_breakers(node)}
    assert {name for name in source if not name.startswith("adapters/")} == {"runtime/resilience/circuits.py"}


def _asks_breakers(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr in ("admit", "report") and "_breakers" in ast.unparse(node.func.value)


def test_only_the_decision_writes_intents_and_it_asks_the_gate_first() -> None:
    intents = {kind.__name__ for kind in (ToolRequested, ModelRequested, ToolResumed, CallRetried)}
    makers = {
        name
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in intents
    }
    assert makers == {"domain/session/decide.py", "domain/session/judging.py"}
