"""Keeping a store in order: what may go, what must go, who may see it, and its schema."""

import time
from pathlib import Path

import click
import msgspec

import ostler
from ostler.app.housekeeping import Housekeeping, Removed
from ostler.app.operations import finish_migrations, grant_tenant
from ostler.app.service import Runtime
from ostler.cli.base import find_session, using_runtime
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.words import count, span_us
from ostler.domain.housekeeping import HousekeepingEvent, MemoriesErased, SessionsRemoved, taken_away
from ostler.domain.identity import LOCAL_USER
from ostler.kernel.errors import UsageError
from ostler.kernel.event import timestamp
from ostler.ports import StreamInfo


class Taken(msgspec.Struct, frozen=True):
    """One thing that was taken out of the store: sessions, or events of memories."""

    at: str
    what: str
    sessions: list[str]
    events: int
    by: str
    because: str
    archive: str = ""


def _age_us(ctx: click.Context, parameter: click.Parameter, text: str) -> int:
    try:
        return span_us(text)
    except UsageError as error:
        raise click.BadParameter(f"{error.message} {error.hint}", ctx, parameter) from error


def _housekeeping(runtime: Runtime) -> Housekeeping:
    parts = runtime.parts
    return Housekeeping(
        parts.journal, parts.blobs, parts.views, parts.clock, tenant=LOCAL_USER.tenant, by=LOCAL_USER.id
    )


@click.group()
def store() -> None:
    """Keep a store in order: remove old sessions, erase what must not be kept, see what was taken, migrate."""


@store.command()
@click.option("--older-than", required=True, metavar="AGE", callback=_age_us, help="90d, 12h or 30m since the end.")
@click.option("--archive", type=click.Path(path_type=Path), metavar="FILE", help="Export them to this new file first.")
@click.option("--no-archive", is_flag=True, help="Keep no copy.")
@click.option("--because", default="they are older than they are to be kept", help="The reason, for the record.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@output_options
def prune(older_than: int, archive: Path | None, no_archive: bool, because: str, dry_run: bool, output: Format) -> None:
    """Delete sessions that ended long ago, with their bodies, and write down that they were there.

    Whatever has not ended stays, however old it is. An archive can be proved and imported again.
    """
    if not dry_run and (archive is None) == (not no_archive):
        raise click.UsageError("Name an --archive FILE, or say --no-archive.")

    async def work(runtime: Runtime) -> Removed:
        keeping, before_us = _housekeeping(runtime), runtime.parts.clock.now_us() - older_than
        infos = [info async for info in keeping.ended_before(before_us)]
        if dry_run:
            return Removed([info.stream.name for info in infos], sum(info.version for info in infos), None)
        return await keeping.remove(
            infos,
            because=because,
            archive=archive,
            written_by=f"ostler {ostler.__version__}",
            progress=Progress(len(infos)),
        )

    done = using_runtime(work)
    emit(done, output, lambda: Rows("session", rows=[(name,) for name in done.sessions]))
    what = "would be removed" if dry_run else "removed"
    say(f"{count(len(done.sessions), 'session')} with {count(done.events, 'event')} {what}.")


class Progress:
    """Says now and then how far it is."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._said > 1:
            self._said = time.monotonic()
            say(f"{done:,} of {self._total:,} …")


@store.command()
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@click.option("--subject", metavar="ID", help="Every session that this principal has started.")
@click.option("--because", required=True, help="The reason, for the record; write no personal data into it.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@output_options
def erase(sessions: tuple[str, ...], subject: str | None, because: str, yes: bool, output: Format) -> None:
    """Erase the content of sessions for good: what was said, called and answered, and every body.

    Their events stay where they stood, with time and hash, so that `ostler verify` still proves the chain. Only what
    has ended can be erased. Backups, archives and what relays handed on are beyond the reach of this command.
    """
    if bool(sessions) == bool(subject):
        raise click.UsageError("Name sessions, or give --subject ID.")

    async def find(runtime: Runtime) -> list[StreamInfo]:
        if subject is not None:
            return [info async for info in _housekeeping(runtime).started_by(subject)]
        infos = []
        for name in sessions:
            stream = (await find_session(runtime, name)).stream
            infos += await runtime.parts.store.streams(stream.tenant, prefix=stream.name, limit=1)
        return infos

    async def work(runtime: Runtime) -> list[str]:
        keeping, infos = _housekeeping(runtime), await find(runtime)
        if not yes and infos:
            click.confirm(f"Erase {count(len(infos), 'session')} for good?", abort=True, err=True)
        for info in infos:
            await keeping.erase(info, because=because)
        return [info.stream.name for info in infos]

    done = using_runtime(work)
    emit(done, output, lambda: Rows("session", rows=[(name,) for name in done]))
    say(f"{count(len(done), 'session')} erased.")


@store.command()
@output_options
def history(output: Format) -> None:
    """List what was ever removed or erased, by whom and why."""

    async def work(runtime: Runtime) -> list[Taken]:
        return [_taken(at_us, event) for at_us, event in await _housekeeping(runtime).history()]

    done = using_runtime(work)
    rows = [
        (one.at, one.what, str(len(one.sessions)), str(one.events), one.by, one.because, one.archive or "–")
        for one in done
    ]
    emit(done, output, lambda: Rows("at", "what", "sessions>", "events>", "by", "because~", "archive", rows=rows))


def _taken(at_us: int, event: HousekeepingEvent) -> Taken:
    if isinstance(event, MemoriesErased):
        return Taken(timestamp(at_us), "erased", [], len(event.events), event.by, event.because)
    remains = taken_away(event)
    what, archive = ("removed", event.archive) if isinstance(event, SessionsRemoved) else ("erased", "")
    names, events = [one.session for one in remains], sum(one.events for one in remains)
    return Taken(timestamp(at_us), what, names, events, event.by, event.because, archive)


@store.command()
@output_options
def migrate(output: Format) -> None:
    """Apply every migration of a PostgreSQL store that is pending, also those that take something away.

    Those that only add something were applied when the first newer worker connected; old and new workers run side by
    side from then on. What older code needs is taken away by this command, when no worker runs any more.
    """
    done = using_runtime(lambda runtime: finish_migrations(runtime.parts))
    emit(done, output, lambda: Rows("applied", rows=[(name,) for name in done]))
    say(f"{count(len(done), 'migration')} applied." if done else "Nothing was pending.")


@store.command()
@click.argument("tenant")
@click.argument("role")
def grant(tenant: str, role: str) -> None:
    """Let a ROLE of a PostgreSQL database read the rows of one TENANT, by row-level security, and no others."""
    if not tenant:
        raise UsageError("The tenant is empty.")
    using_runtime(lambda runtime: grant_tenant(runtime.parts, tenant, role))
    say(f"{role} may read what belongs to {tenant}, and nothing else.")
