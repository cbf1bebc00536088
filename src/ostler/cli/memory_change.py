"""Changing what agents remember: forgetting, restoring, pinning, rolling back."""

from collections.abc import Sequence

import click
import msgspec

from ostler.app.memory import MemoryDesk, Told
from ostler.app.service import Runtime
from ostler.cli.base import acting_option
from ostler.cli.memory import at_desk, marks
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.words import count, short
from ostler.domain.identity import Principal
from ostler.kernel.errors import NotFound


class Changed(msgspec.Struct, frozen=True):
    """Which memories were changed."""

    ids: list[str]


class Undone(msgspec.Struct, frozen=True):
    """What was rolled back, or would be."""

    memories: list[Told]
    is_done: bool


_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True)
_because = click.option("--because", default="", help="The reason, for the record.")


@click.command()
@_ids
@_because
@acting_option
@output_options
def forget(ids: tuple[str, ...], because: str, acting: str | None, output: Format) -> None:
    """Take memories out of force: nobody recalls them any more.

    What they said stays in the log, and they can be restored. To take it out of the log as well, erase them.
    """

    async def work(runtime: Runtime, by: Principal, desk: MemoryDesk) -> list[str]:
        return await desk.forget(ids, because=because)

    _tell(at_desk(acting, work), ids, output, "forgotten")


@click.command()
@_ids
@_because
@acting_option
@output_options
def restore(ids: tuple[str, ...], because: str, acting: str | None, output: Format) -> None:
    """Put memories in force again, whatever had ended that: forgetting, a newer one, a merger, a rollback."""

    async def work(runtime: Runtime, by: Principal, desk: MemoryDesk) -> list[str]:
        return await desk.restore(ids, because=because)

    _tell(at_desk(acting, work), ids, output, "restored")


@click.command()
@_ids
@click.option("--off", is_flag=True, help="They may make room for others again.")
@acting_option
@output_options
def pin(ids: tuple[str, ...], off: bool, acting: str | None, output: Format) -> None:
    """Say of memories that they never make room for others."""

    async def work(runtime: Runtime, by: Principal, desk: MemoryDesk) -> list[str]:
        return await desk.pin(ids, is_pinned=not off)

    _tell(at_desk(acting, work), ids, output, "unpinned" if off else "pinned")


@click.command()
@click.option("--session", default="", metavar="SESSION", help="Everything that this session has remembered.")
@click.option("--source", default="", metavar="SOURCE", help="Everything made of its words, such as tool.web.fetch.")
@click.option("--after", default=0, type=click.IntRange(0), metavar="POSITION", help="Only what came after it.")
@click.option("--because", default="", help="The reason, for the record.")
@click.option("--dry-run", is_flag=True, help="Only say what would be taken back.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@acting_option
@output_options
def rollback(
    session: str, source: str, after: int, because: str, dry_run: bool, yes: bool, acting: str | None, output: Format
) -> None:
    """Take back what one session has put into memory, or what may be made of the words of a tool.

    In every scope of the tenant, and what was made of it. It can be restored.
    """
    if bool(session) == bool(source):
        raise click.UsageError("Name a --session or a --source.")

    async def look(runtime: Runtime, by: Principal, desk: MemoryDesk) -> list[Told]:
        return await desk.written_by(session=await _whole_id(runtime, by, session), source=source, after=after)

    async def work(runtime: Runtime, by: Principal, desk: MemoryDesk) -> list[str]:
        whole = await _whole_id(runtime, by, session)
        return await desk.roll_back(session=whole, source=source, after=after, because=because or "rolled back")

    found = at_desk(acting, look)
    if found and not dry_run and not yes:
        for one in found:
            say(f"{one.id}  {short(one.text, 80)}")
        click.confirm(f"Take back {count(len(found), 'memory')}?", abort=True, err=True)
    undone = [] if dry_run else at_desk(acting, work)
    shown = found if dry_run else [one for one in found if one.id in undone]
    if shown or output != "table":
        emit(Undone(shown, not dry_run), output, lambda: _table(shown))
    would = " would be" if dry_run else ""
    say(f"{count(len(found if dry_run else undone), 'memory')}{would} taken back.")
    if not found:
        say(f"Nothing in force was {f'written by {session}' if session else f'made of the words of {source}'}.")


async def _whole_id(runtime: Runtime, by: Principal, session: str) -> str:
    """The id that begins so. What a session remembered outlives it: of one that is not there, the name as it is."""
    try:
        return (await runtime.session(session, tenant=by.tenant)).id if session else ""
    except NotFound:
        return session


@click.command()
@acting_option
def rebuild(acting: str | None) -> None:
    """Fill the index of memories anew from the log. Nothing is lost by it; vectors are made again by a worker."""

    async def work(runtime: Runtime, by: Principal, desk: MemoryDesk) -> int:
        return await desk.rebuild()

    events = at_desk(acting, work)
    say(f"The index was filled anew from {events:,} events.")


def _tell(changed: list[str], named: tuple[str, ...], output: Format, what: str) -> None:
    if changed or output != "table":
        emit(Changed(changed), output, lambda: Rows("id", rows=[(one,) for one in changed]))
    say(f"{count(len(changed), 'memory')} {what}.")
    if len(changed) < len(set(named)):
        say("There was nothing to change about the others." if changed else "There was nothing to change.")


def _table(found: Sequence[Told]) -> Rows:
    rows = [(one.id, one.kind, str(one.position), marks(one), short(one.text)) for one in found]
    return Rows("id", "kind", "position>", "", "text…", rows=rows)
