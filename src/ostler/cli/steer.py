"""Commands that tell a session something: approve, deny, ask, send, pause, cancel, kill, fork."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.cli.base import acting_option, acting_principal, find_session, image_option, using_runtime
from ostler.cli.output import Format, output_options, put, say
from ostler.cli.words import span_us
from ostler.domain.identity import Principal
from ostler.domain.session.events import Lasts
from ostler.kernel.errors import UsageError
from ostler.views.sessions import SessionView

Wish = Callable[[Session, Principal], Awaitable[str]]
"""Tells a session something in somebody's name; returns what was said, for people."""


def _tell(session: str, acting: str | None, output: Format, wish: Wish) -> None:
    """Say something to a session, then how it stands and who will act upon it."""

    async def work(runtime: Runtime) -> tuple[SessionView, str, bool]:
        by = await acting_principal(runtime, acting)
        found = await find_session(runtime, session, tenant=by.tenant)
        said = await wish(found, by)
        now = runtime.parts.clock.now_us()
        is_attended = any(until_us > now for _, until_us in await runtime.parts.store.workers())
        return await found.view(), said, is_attended

    view, said, is_attended = using_runtime(work)
    say(said)
    if view.status in ("queued", "running") and not is_attended:
        say(f"No worker is running: go on with `ostler resume {view.id}`, or start `ostler worker`.")
    if output != "table":
        put(view, output)


@click.command()
@click.argument("session")
@click.argument("call", required=False)
@click.option("--reason", "-r", default="", help="Why; kept in the log.")
@click.option("--args", "changed", metavar="JSON", help="Arguments in place of those that the model asked for.")
@click.option("--digest", metavar="SHA256", help="Approve only if the call is still exactly this one.")
@click.option(
    "--for",
    "lasts",
    metavar="once|session|DURATION",
    default="once",
    show_default=True,
    help="For how long the very same call needs no other approval.",
)
@acting_option
@output_options
def approve(
    session: str,
    call: str | None,
    reason: str,
    changed: str | None,
    digest: str | None,
    lasts: str,
    acting: str | None,
    output: Format,
) -> None:
    """Let the call that waits go on (CALL, if it is given, must be that one). A worker then performs it.

    The approval is of exactly this call. It is judged again before it is performed.
    """
    scope, lasts_us = _lasting(lasts)
    arguments = None if changed is None else _arguments(changed)

    async def wish(found: Session, by: Principal) -> str:
        until_us = None if lasts_us is None else found.now_us() + lasts_us
        approved = await found.approve(
            call, by=by, reason=reason, digest=digest, arguments=arguments, lasts=scope, until_us=until_us
        )
        asked = (await found.view()).approval
        missing = "" if asked is None or asked.call != approved else f"; it still needs {', '.join(asked.missing)}"
        return f"Approved call {approved} of {found.id}{missing}."

    _tell(session, acting, output, wish)


def _lasting(lasts: str) -> tuple[Lasts, int | None]:
    """For how long an approval is to hold, and for how many microseconds. Raises `UsageError`."""
    if lasts == "once":
        return "once", None
    return ("session", None) if lasts == "session" else ("until", span_us(lasts))


def _arguments(text: str) -> dict[str, Any]:
    """The JSON object of arguments that a person wrote. Raises `UsageError`."""
    try:
        written: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UsageError(f"The arguments are no JSON object: {error}.", hint="Write --args '{\"n\": 1}'.") from error
    return written


@click.command()
@click.argument("session")
@click.argument("call", required=False)
@click.option("--reason", "-r", default="", help="Why; kept in the log, and told to the model.")
@acting_option
@output_options
def deny(session: str, call: str | None, reason: str, acting: str | None, output: Format) -> None:
    """Refuse the call that waits (CALL, if it is given, must be that one). The model is told, and goes on."""

    async def wish(found: Session, by: Principal) -> str:
        return f"Denied call {await found.deny(call, by=by, reason=reason)} of {found.id}."

    _tell(session, acting, output, wish)


@click.command("ask")
@click.argument("session")
@click.argument("question")
@click.option("--call", metavar="CALL", help="Only if this is the call that waits.")
@acting_option
@output_options
def ask_back(session: str, question: str, call: str | None, acting: str | None, output: Format) -> None:
    """Ask the agent something before deciding about its call, which is not begun. The model is told, and goes on."""

    async def wish(found: Session, by: Principal) -> str:
        return f"Asked about call {await found.ask_back(question, call, by=by)} of {found.id}."

    _tell(session, acting, output, wish)


@click.command()
@click.argument("session")
@click.argument("text")
@image_option
@acting_option
@output_options
def send(session: str, text: str, images: tuple[Path, ...], acting: str | None, output: Format) -> None:
    """Say something to a running agent; it sees it with its next request."""

    async def wish(found: Session, by: Principal) -> str:
        await found.send(text, images=images, by=by)
        return f"Sent to {found.id}."

    _tell(session, acting, output, wish)


@click.command()
@click.argument("session")
@click.option("--reason", "-r", default="", help="Why; kept in the log.")
@acting_option
@output_options
def pause(session: str, reason: str, acting: str | None, output: Format) -> None:
    """Begin no new call until the session is resumed; what is under way is finished."""

    async def wish(found: Session, by: Principal) -> str:
        await found.pause(by=by, reason=reason)
        return f"Paused {found.id}. Go on with: ostler resume {found.id}"

    _tell(session, acting, output, wish)


@click.command()
@click.argument("session")
@click.option("--reason", "-r", default="", help="Why; kept in the log.")
@acting_option
@output_options
def cancel(session: str, reason: str, acting: str | None, output: Format) -> None:
    """Stop what is under way, then end the session. Its worker does that; `ostler kill` needs none."""

    async def wish(found: Session, by: Principal) -> str:
        await found.cancel(by=by, reason=reason)
        is_over = (await found.view()).status == "cancelled"
        return f"Cancelled {found.id}." if is_over else f"Cancelling {found.id}: calls under way are being stopped."

    _tell(session, acting, output, wish)


@click.command()
@click.argument("session")
@acting_option
@output_options
def kill(session: str, acting: str | None, output: Format) -> None:
    """End a session at once; what is under way is recorded as unknown and stopped by its worker."""

    async def wish(found: Session, by: Principal) -> str:
        await found.kill(by=by)
        return f"Killed {found.id}."

    _tell(session, acting, output, wish)


@click.command()
@click.argument("session")
@click.option("--at", "seq", metavar="SEQ", type=click.IntRange(1), help="The last event that the two share.")
@click.option("--say", "text", metavar="TEXT", help="The next thing that the new session hears.")
@acting_option
@output_options
def fork(session: str, seq: int | None, text: str | None, acting: str | None, output: Format) -> None:
    """Start a new session from the past of another, and print its id.

    Without --at the past reaches up to the last event at which no call was under way.
    """

    async def work(runtime: Runtime) -> SessionView:
        by = await acting_principal(runtime, acting)
        found = await find_session(runtime, session, tenant=by.tenant)
        return await (await found.fork(seq=seq, say=text, by=by)).view()

    view = using_runtime(work)
    if output == "table":
        click.echo(view.id)
    else:
        put(view, output)
    say(f"Forked from {view.origin}. Run it with `ostler resume {view.id}`, or leave it to a worker.")
