"""Commands that run a session in the foreground: run, resume."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

import click
import msgspec

from ostler.app.identity import grant_of
from ostler.app.project import Found, find_agent, load_code
from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.app.settings import Settings
from ostler.app.starting import PRIORITY_MAX
from ostler.app.vault import scrubbed_output
from ostler.cli.base import (
    acting_option,
    acting_principal,
    find_session,
    image_option,
    settings,
    settings_of_existing,
)
from ostler.cli.exits import Exit, of_session
from ostler.cli.follow import Answer, Followed, Show, approve_unseen, ask_person, follow, leave_open
from ostler.cli.live import Live, happening
from ostler.cli.output import Format, console, emit_lines, output_options, printing_aside, put, say
from ostler.cli.signals import ignore_troubles, on_signals
from ostler.cli.speech import Hear, Speech, is_shown, lines, text_option
from ostler.cli.words import arguments, count, duration, short, usd
from ostler.domain.identity import Principal
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import DefinitionInvalid, UsageError
from ostler.kernel.event import Record
from ostler.views.entries import entry
from ostler.views.sessions import SessionView

F = TypeVar("F", bound=Callable[..., Any])


def foreground_options(command: F) -> F:
    """Options of commands that follow a session."""
    for option in (
        output_options,
        acting_option,
        text_option,
        click.option("--yes", "-y", is_flag=True, help="Approve every call that asks for it, unseen."),
        click.option("--timeout", metavar="S", type=click.FloatRange(0, min_open=True), help="Wait S seconds at most."),
        click.option("--detach", "-d", is_flag=True, help="Do not follow it: a worker runs it."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("agent")
@click.argument("goal")
@click.option(
    "--workspace",
    "-w",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="The folder that the agent may work in.",
)
@click.option("--model", "-m", metavar="PROVIDER:NAME", help="The model (ollama:llama3.2), or route:NAME.")
@click.option("--sandbox", type=click.Choice(["bwrap", "none"]), help="How commands are isolated.")
@click.option("--policy", metavar="NAME|RULES", help="A policy above the agent's own: a file, or one that comes along.")
@click.option(
    "--input",
    "inputs",
    metavar="NAME=VALUE",
    multiple=True,
    help="An input that a policy declares; VALUE is JSON, or else text. May be repeated.",
)
@image_option
@click.option("--grant", metavar="ID", help="What bounds its rights, as `ostler token list` shows it.")
@click.option(
    "--priority",
    default=0,
    show_default=True,
    metavar="N",
    type=click.IntRange(-PRIORITY_MAX, PRIORITY_MAX),
    help="Sessions of higher priority go first.",
)
@click.option(
    "--despite-fitness",
    "despite",
    default="",
    metavar="REASON",
    help="Start it although a failing fitness target forbids another model; takes the scope govern.",
)
@foreground_options
def run(
    agent: str,
    goal: str,
    workspace: Path,
    model: str | None,
    sandbox: str | None,
    policy: str | None,
    inputs: tuple[str, ...],
    images: tuple[Path, ...],
    grant: str | None,
    priority: int,
    despite: str,
    detach: bool,
    timeout: float | None,
    yes: bool,
    text: bool | None,
    acting: str | None,
    output: Format,
) -> None:
    """Start a session of AGENT towards GOAL and follow it to its end.

    AGENT is a file (x.toml), an agent of the project, or a built-in one such as `coder`. The session runs in this
    process; interrupting it (Ctrl-C) stops in order, and `ostler resume` goes on where it was. Progress goes to
    standard error, the answer to standard output.
    """
    given = _inputs(inputs)

    async def start(runtime: Runtime, known: Settings, by: Principal) -> tuple[Session, int]:
        found = find_agent(agent, known, runtime.parts.tools.specs())
        _check_hooks(found, runtime.parts.hooks.names)
        choice = await runtime.parts.models.choose(model, found.spec.name, found.model)
        session = await runtime.start(
            found.spec,
            goal,
            model=choice,
            by=by,
            workspace=workspace,
            sandbox=sandbox or known.sandbox,
            priority=priority,
            policy=policy,
            inputs=given,
            grant=await grant_of(runtime.parts, by.tenant, grant) if grant is not None else None,
            images=images,
            despite=despite,
        )
        say(f"agent {found.spec} ({found.source}), model {choice.model}: {choice.because}")
        say(f"session {session.id} in {workspace.resolve()}, sandbox {sandbox or known.sandbox}")
        return session, 0

    shown = Shown(output, text, yes)
    _in_foreground(settings(), start, shown, detach=detach, timeout_s=timeout, acting=acting)


def _check_hooks(found: Found, known: Sequence[str]) -> None:
    """Raises `DefinitionInvalid` for hooks that nobody here could ask, so that each call would be denied."""
    problems = []
    for number, name in enumerate(found.spec.hooks):
        if name not in known:
            near = did_you_mean(name, known)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(known) or 'none'}"
            problems.append((f"hooks[{number}]", f"no hook is called {name!r} ({hint})"))
    if problems:
        raise DefinitionInvalid(found.source, problems)


def _inputs(written: Sequence[str]) -> dict[str, Any]:
    """The values of `NAME=VALUE`: what is JSON as that, anything else as text. Raises `UsageError`."""
    given: dict[str, Any] = {}
    for one in written:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise UsageError(f"{one!r} is no input.", hint="Write --input NAME=VALUE, such as --input frozen=true.")
        if name in given:
            raise UsageError(f"The input {name!r} is given twice.", hint="Leave one of them away.")
        try:
            given[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            given[name] = value
    return given


@click.command()
@click.argument("session")
@foreground_options
def resume(
    session: str,
    detach: bool,
    timeout: float | None,
    yes: bool,
    text: bool | None,
    acting: str | None,
    output: Format,
) -> None:
    """Go on with a session that is paused, was interrupted, or was answered, and follow it.

    It runs in this process unless another worker holds it; then it is only shown. Calls that wait for an approval are
    not approved by this.
    """

    async def take_up(runtime: Runtime, _: Settings, by: Principal) -> tuple[Session, int]:
        found = await find_session(runtime, session, tenant=by.tenant)
        version = await found.version()
        await found.resume(by=by)
        say(f"session {found.id}, after event {version}")
        return found, version

    shown = Shown(output, text, yes)
    _in_foreground(settings_of_existing(), take_up, shown, detach=detach, timeout_s=timeout, acting=acting)


Begin = Callable[[Runtime, Settings, Principal], Awaitable[tuple[Session, int]]]
"""Finds or starts the session to be followed, in somebody's name; with the number of its last event that is known."""


class Shown(NamedTuple):
    """How a session is shown to whoever stands in front of it, and what is asked of them."""

    output: Format
    text: bool | None
    yes: bool


def _in_foreground(
    known: Settings,
    begin: Begin,
    shown: Shown,
    *,
    detach: bool,
    timeout_s: float | None,
    acting: str | None,
) -> None:
    """Begin, follow, show how it stands, and exit with the code that says so."""
    names: list[str] = []
    data, printing, output = sys.stdout, ExitStack(), shown.output

    async def work() -> Followed:
        async with Runtime.open(known, worker=False) as runtime:
            printing.enter_context(scrubbed_output(runtime.parts.seen))
            _leave_on_signals(runtime)
            runtime.parts.know(*load_code(known.tools))
            by = await acting_principal(runtime, acting)
            session, after = await begin(runtime, known, by)
            names.append(session.id)
            if detach:
                await _say_who_runs_it(runtime, session)
                return Followed(await session.view(), 0)
            show, hear = _shower(session, shown, data)
            try:
                async with asyncio.timeout(timeout_s):
                    answer = _answer(shown.yes, output, by)
                    return await follow(runtime, session, show, answer, after=after, hear=hear)
            except asyncio.CancelledError:
                say("Stopping; calls under way may finish. Ctrl-C again leaves at once.")
                raise

    try:
        with printing_aside(), printing:
            followed = asyncio.run(work())
    except asyncio.CancelledError:
        _leave(names, Exit.INTERRUPTED, "Interrupted")
    except TimeoutError:
        _leave(names, Exit.TIMED_OUT, f"Not done after {timeout_s:g} s")
    else:
        if detach:
            if output == "table":
                click.echo(followed.view.id)
            else:
                put(followed.view, output)
            return
        _conclude(followed.view, followed.span_us, output)


def _leave_on_signals(runtime: Runtime) -> None:
    task = asyncio.current_task()
    assert task is not None

    def leave_at_once() -> None:
        ignore_troubles(runtime)
        task.cancel()

    on_signals(task.cancel, leave_at_once)


def _leave(names: list[str], code: Exit, why: str) -> None:
    if names:
        say(f"{why}. The session keeps its state; go on with: ostler resume {names[0]}")
    raise click.exceptions.Exit(code)


def _conclude(view: SessionView, span_us: int, output: Format) -> None:
    """The answer, or what is to be done; then the exit code."""
    if output != "table":
        put(view, output)
    elif view.status == "completed":
        click.echo(view.text)
    if view.approval is not None and view.status == "waiting":
        what = short(f"{view.approval.tool or 'the model itself'} {arguments(view.approval.arguments)}", 160).rstrip()
        say(f"Waiting for an approval of call {view.approval.call}: {what}")
        say(f"Go on with: ostler approve {view.id} (or deny), then: ostler resume {view.id}")
    elif view.status == "paused":
        say(f"Paused: {view.reason}. Go on with: ostler resume {view.id}")
    elif view.status in ("failed", "cancelled"):
        say(f"{view.status} ({view.reason}): {view.text}")
        say(f"More: ostler why {view.id}")
    used = [count(view.steps, "step"), count(view.tool_calls, "tool call")]
    if view.tokens:
        used += [count(view.tokens, "token"), f"cost {usd(view.cost_microusd)}"]
    say(f"{view.status} in {duration(span_us)}: {', '.join(used)}, {view.model} ({view.model_kind})")
    raise click.exceptions.Exit(of_session(view.status, view.reason))


def _shower(session: Session, shown: Shown, data: TextIO) -> tuple[Show, Hear | None]:
    """What shows the events of a session, and what its model says, if that is wanted."""
    is_heard = is_shown(shown.text, shown.output, sys.stderr)
    if shown.output == "jsonl":
        tell = lines(session.id, data) if is_heard else None
        return lambda record, is_known: None if is_known else emit_lines([entry(record)], file=data), tell
    errors = console(err=True)
    live, speech = Live(errors, session.id, says_how=True), Speech(errors)

    def show(record: Record, is_known: bool) -> None:
        event = happening(record)
        speech.event(event.event)
        live.show(event, is_silent=is_known)

    return show, speech.hear if is_heard else None


def _answer(yes: bool, output: Format, by: Principal) -> Answer:
    if yes:
        return partial(approve_unseen, by=by)
    is_attended = output == "table" and sys.stdin.isatty() and sys.stderr.isatty()
    return partial(ask_person, by=by) if is_attended else leave_open


async def _say_who_runs_it(runtime: Runtime, session: Session) -> None:
    now = runtime.parts.clock.now_us()
    if any(until_us > now for _, until_us in await runtime.parts.store.workers()):
        say(f"A worker runs it. Watch it with: ostler logs -f {session.id}")
    else:
        say(f"No worker is running: start one with `ostler worker`, or go on here with: ostler resume {session.id}")
