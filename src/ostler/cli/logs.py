"""The events of a session: logs."""

import sys

import click
import msgspec

from ostler.app.service import Runtime
from ostler.app.session import Session
from ostler.cli.base import acting_option, is_worker, using_runtime, using_session
from ostler.cli.live import Live, happening
from ostler.cli.output import Format, Rows, console, emit, emit_lines, output_options, put
from ostler.cli.speech import Speech, hearing, is_shown, lines, text_option
from ostler.cli.words import arguments
from ostler.domain.identity import LOCAL_USER
from ostler.kernel.errors import NotFound
from ostler.kernel.event import Record, StreamId, to_cloudevent
from ostler.views.entries import entry


@click.command()
@click.argument("session")
@click.option("--follow", "-f", is_flag=True, help="Go on as events happen, until the session ends.")
@click.option("--after", default=0, metavar="N", type=click.IntRange(0), help="Only events with a higher number.")
@click.option("--raw", is_flag=True, help="Events byte for byte as they are stored, one a line.")
@click.option("--cloudevents", is_flag=True, help="CloudEvents 1.0 JSON, one a line.")
@text_option
@acting_option
@output_options
def logs(
    session: str,
    follow: bool,
    after: int,
    raw: bool,
    cloudevents: bool,
    text: bool | None,
    acting: str | None,
    output: Format,
) -> None:
    """Show the events of a session (or of a worker), in order.

    Followed on a terminal, also what the model says while it says it.
    """
    if raw and cloudevents:
        raise click.UsageError("--raw and --cloudevents exclude each other.")
    if follow and output == "json":
        raise click.UsageError("A log that is followed has no end, so it cannot be one JSON value: use -o jsonl.")
    if text and (not follow or raw or cloudevents or output == "yaml"):
        raise click.UsageError("--text is for a log that is followed, as a table or as JSON lines.")
    is_heard = follow and not raw and not cloudevents and is_shown(text, output, sys.stdout)

    if is_worker(session):
        if follow:
            raise click.UsageError("The log of a worker cannot be followed.")
        records = using_runtime(lambda runtime: _of_worker(runtime, session))
        _show_worker([record for record in records if record.seq > after], raw, cloudevents, output)
        return

    async def show(found: Session) -> None:
        if raw or cloudevents:
            async for record in found.records(after=after, follow=follow):
                click.echo(_as_stored(record, raw))
        elif output == "table":
            # From the first event on, because later lines refer to earlier ones.
            await _for_people(found, follow, after, is_heard)
        elif output == "json":
            put([entry(record) async for record in found.records(after=after, follow=False)], output)
        else:
            async with hearing(found, lines(found.id) if is_heard else None):
                async for record in found.records(after=after, follow=follow):
                    emit_lines([entry(record)], output)

    using_session(session, show, acting)


def _as_stored(record: Record, raw: bool) -> bytes:
    return record.data if raw else msgspec.json.encode(to_cloudevent(record))


async def _of_worker(runtime: Runtime, name: str) -> list[Record]:
    records = await runtime.parts.store.read(StreamId(LOCAL_USER.tenant, name))
    if not records:
        raise NotFound(f"There is no worker {name}.", hint="`ostler verify` lists every log there is.")
    return records


def _show_worker(records: list[Record], raw: bool, cloudevents: bool, output: Format) -> None:
    """The log of a worker: when it began, and how it ended."""
    if raw or cloudevents:
        for record in records:
            click.echo(_as_stored(record, raw))
        return
    entries = [entry(record) for record in records]
    rows = [(str(one.seq), one.time, one.type, arguments(one.data)) for one in entries]
    emit(entries, output, lambda: Rows("seq>", "time", "type", "data~", rows=rows))


async def _for_people(session: Session, follow: bool, after: int, is_heard: bool) -> None:
    shown = console()
    live, speech = Live(shown, session.id), Speech(shown)
    async with hearing(session, speech.hear if is_heard else None):
        async for record in session.records(follow=follow):
            event = happening(record)
            speech.event(event.event)
            live.show(event, is_silent=record.seq <= after)
