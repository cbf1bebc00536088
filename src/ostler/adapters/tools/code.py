"""Python that an agent writes, in a restricted interpreter that stops at each call of a tool.

The interpreter is Monty (https://github.com/pydantic/monty), a Python without files, network, processes or third-party
packages, in a process of its own. Everything that is known of its interface is in this file.

    step = await interpreter.start(code, {"files_read": ["path"]})
    while isinstance(step, Suspended):
        outcome = …  # judge and perform the call `step.function` with `step.arguments`
        step = await interpreter.resume(step.snapshot, outcome)

A snapshot is everything that the code is at the moment of the call; it can be resumed by any process, later, once or
again, and is a few kilobytes for ordinary code. Resume only snapshots that Ostler has written itself.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import Annotated, Any, assert_never

import msgspec
import pydantic_monty as monty
from msgspec import Meta

from ostler.adapters.tools.functions import FunctionTools, tool
from ostler.domain.tool import FailureKind, Isolation, Suspension, ToolOutcome, ToolRequest, ToolSpec, failed, succeeded

PRINTED_MAX = 64 * 1024
"""How many bytes a program may print in all."""


class CodeLimits(msgspec.Struct, frozen=True):
    """What a program may use. `turn_s` is processor time from one call of a tool to the next; `calls` is in all."""

    turn_s: float = 5.0
    memory_bytes: int = 64 * 1024**2
    depth: int = 200
    calls: int = 100


class Suspended(msgspec.Struct, frozen=True):
    """The program waits for what comes of a call. `printed` is what it has printed so far."""

    function: str
    arguments: dict[str, Any]
    snapshot: bytes
    printed: str = ""


class Finished(msgspec.Struct, frozen=True):
    """The program has ended, with the value of its last expression (JSON; what has no JSON form, as its text)."""

    value: Any
    printed: str = ""


class Failed(msgspec.Struct, frozen=True):
    """The program has ended by an error of its own, or by a limit (`timeout`, or as the `reason` says)."""

    kind: FailureKind
    reason: str
    printed: str = ""


Step = Suspended | Finished | Failed


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot as it is kept: what the interpreter itself does not remember, and the version that wrote it."""

    version: str
    functions: dict[str, list[str]]
    calls: int
    printed: str
    state: bytes


class Interpreter:
    """Runs programs up to their next call. Its processes are started with the first program and end with `close`."""

    def __init__(self, limits: CodeLimits | None = None) -> None:
        self._limits = limits or CodeLimits()
        self._lock = Lock()
        self._opened = ExitStack()
        self._pool: monty.Monty | None = None

    async def start(self, code: str, functions: Mapping[str, Sequence[str]]) -> Step:
        """Run a program up to its first call of one of these functions, or to its end.

        `functions` maps each name that the program may call to the names of its parameters, in order. No call of
        theirs is performed here.
        """
        named = {name: list(parameters) for name, parameters in functions.items()}
        saved = _Saved(monty.__version__, named, 0, "", b"")
        return await asyncio.to_thread(self._run, saved, code, None)

    async def resume(self, snapshot: bytes, outcome: ToolOutcome) -> Step:
        """Go on with what came of the call: its value, or a `RuntimeError` within the program if it went wrong."""
        try:
            saved = msgspec.msgpack.decode(snapshot, type=_Saved)
        except msgspec.DecodeError:
            return Failed("invalid", "this is no snapshot of a program")
        if saved.version != monty.__version__:
            reason = f"the program was suspended by version {saved.version} of the interpreter; this is another one"
            return Failed("permanent", reason, saved.printed)
        return await asyncio.to_thread(self._run, saved, None, outcome)

    async def close(self) -> None:
        """End its processes. It can be used again."""
        self._pool = None
        await asyncio.to_thread(self._opened.close)

    def _run(self, saved: _Saved, code: str | None, outcome: ToolOutcome | None) -> Step:
        """In a thread, because the library's own asynchronous pool now and then aborts the process at its exit (1.4).

        Nothing stops the thread when its caller is cancelled, but the limits do.
        """
        printed = monty.CollectString(max_bytes=max(PRINTED_MAX - len(saved.printed.encode()), 1))
        pool = self._started()
        try:
            with pool.checkout(limits=self._bounds(), os_policy={"sleep": "zero"}) as session:
                if code is not None:
                    now = session.feed_start(code, print_callback=printed)
                else:
                    assert outcome is not None
                    before = session.load_snapshot(saved.state, print_callback=printed)
                    assert isinstance(before, monty.FunctionSnapshot)
                    now = before.resume(_result(outcome))
                return self._onwards(saved, now, printed)
        except monty.MontySyntaxError as error:
            return Failed("invalid", f"SyntaxError: {error}", saved.printed + printed.output)
        except monty.MontyError as error:
            kind: FailureKind = "timeout" if str(error).startswith("TimeoutError") else "permanent"
            return Failed(kind, str(error), saved.printed + printed.output)

    def _onwards(self, saved: _Saved, now: monty.SyncSnapshot, printed: monty.CollectString) -> Step:
        """Answer what is no call of a tool, up to one or to the end."""
        while True:
            match now:
                case monty.MontyComplete():
                    return Finished(_as_json(now.output), saved.printed + printed.output)
                case monty.FunctionSnapshot() if now.is_os_function:
                    now = now.resume_not_handled()
                case monty.FunctionSnapshot() if now.function_name in saved.functions:
                    return self._suspended(saved, now, saved.printed + printed.output)
                case monty.FunctionSnapshot():
                    reason = f"name {now.function_name!r} is not defined"
                    now = now.resume({"exc_type": "NameError", "message": reason})
                case monty.NameLookupSnapshot() if now.variable_name in saved.functions:
                    now = now.resume(value=_named(now.variable_name))
                case monty.NameLookupSnapshot():
                    now = now.resume()
                case monty.FutureSnapshot():
                    return Failed("invalid", "functions are not to be awaited", saved.printed + printed.output)
                case _:
                    assert_never(now)

    def _suspended(self, saved: _Saved, now: monty.FunctionSnapshot, printed: str) -> Step:
        name = str(now.function_name)
        parameters = saved.functions[name]
        arguments = dict(zip(parameters, now.args, strict=False)) | now.kwargs
        if len(now.args) > len(parameters) or len(arguments) < len(now.args) + len(now.kwargs):
            return Failed("invalid", f"TypeError: {name}() was given arguments that it does not have", printed)
        if saved.calls >= self._limits.calls:
            return Failed("permanent", f"the program has made {saved.calls} calls, which is all it may", printed)
        kept = _Saved(saved.version, saved.functions, saved.calls + 1, printed, now.dump())
        given = {key: _as_json(value) for key, value in arguments.items()}
        return Suspended(name, given, msgspec.msgpack.encode(kept), printed)

    def _bounds(self) -> monty.ResourceLimits:
        limits = self._limits
        return {
            "max_turn_duration_secs": limits.turn_s,
            "max_feed_duration_secs": limits.turn_s,
            "max_memory": limits.memory_bytes,
            "max_recursion_depth": limits.depth,
        }

    def _started(self) -> monty.Monty:
        with self._lock:
            if self._pool is None:
                self._pool = self._opened.enter_context(monty.Monty())
            return self._pool


class CodeTools(FunctionTools):
    """Hosts `code.run`. A program calls the agent's other tools by their names, with `_` for what no name may hold.

    At each call it is suspended, and what comes of `perform` is no outcome yet: the runtime puts the call through the
    gate, and has the program go on with what came of it.
    """

    def __init__(self, interpreter: Interpreter | None = None) -> None:
        self._interpreter = own = interpreter or Interpreter()

        @tool(name="code.run", effect="read", timeout_s=30.0)
        async def run(request: ToolRequest, code: Annotated[str, Meta(min_length=1)]) -> ToolOutcome:
            """Run a Python program, and return the value of its last expression.

            There are no files, no network and no packages but parts of the standard library (json, re, math, datetime,
            itertools …). Your other tools are functions, with `_` in place of a dot: files_read(path="a.txt").

            Args:
                code: The program. What it prints is returned, too.
            """
            names = {_function_name(spec.name): spec for spec in request.callable_tools}
            if request.snapshot is not None and request.answer is not None:
                step = await own.resume(request.snapshot, request.answer)
            else:
                step = await own.start(code, {name: list(_parameters(spec)) for name, spec in names.items()})
            if isinstance(step, Suspended):
                waits_for = Suspension(names[step.function].name, step.arguments, step.snapshot)
                return ToolOutcome(ok=True, output="", suspension=waits_for)
            return outcome_of(step)

        super().__init__([run])

    def tier(self, request: ToolRequest) -> Isolation:
        return "interpreter"

    async def close(self) -> None:
        await self._interpreter.close()


def _function_name(tool: str) -> str:
    """What a tool is called in a program."""
    return re.sub(r"\W", "_", tool)


def _parameters(spec: ToolSpec) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = spec.parameters.get("properties", {})
    return properties


def outcome_of(step: Finished | Failed) -> ToolOutcome:
    """What a model is told of a program that has ended."""
    match step:
        case Finished():
            return succeeded({"value": step.value, "printed": step.printed})
        case Failed():
            return failed(step.kind, step.reason + (f"\nprinted: {step.printed}" if step.printed else ""))
        case _:
            assert_never(step)


def _result(outcome: ToolOutcome) -> monty.ExternalResult:
    if not outcome.ok:
        return {"exc_type": "RuntimeError", "message": f"{outcome.kind or 'permanent'}: {outcome.output}"}
    is_whole = outcome.is_json and outcome.blob is None
    return {"return_value": json.loads(outcome.output) if is_whole else outcome.output}


def _as_json(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=repr)
    except TypeError:  # keys that are no text
        return repr(value)


def _named(name: str) -> Any:
    """A function by this name: the interpreter only wants to know what it is called."""

    def function() -> None: ...

    function.__name__ = name
    return function
