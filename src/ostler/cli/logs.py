"""The events of a session: logs."""

from collections.abc import AsyncIterator

import click
import msgspec

from ostler.app.service import Session
from ostler.cli.base import using_session
from ostler.cli.live import Live, happening
from ostler.cli.output import Format, console, emit_lines, encode, output_options
from ostler.kernel.event import Record, to_cloudevent
from ostler.views.entries import entry


@click.command()
@click.argument("session")
@click.option("--follow", "-f", is_flag=True, help="Go on as events happen, until the session ends.")
@click.option("--after", default=0, metavar="N", type=click.IntRange(0), help="Only events with a higher number.")
@click.option("--raw", is_flag=True, help="Events byte for byte as they are stored, one a line.")
@click.option("--cloudevents", is_flag=True, help="CloudEvents 1.0 JSON, one a line.")
@output_options
def logs(session: str, follow: bool, after: int, raw: bool, cloudevents: bool, output: Format) -> None:
    """Show the events of a session, in order."""
    if raw and cloudevents:
        raise click.UsageError("--raw and --cloudevents exclude each other.")
    if follow and output == "json":
        raise click.UsageError("A log that is followed has no end, so it cannot be one JSON value: use -o jsonl.")

    async def show(found: Session) -> None:
        if raw or cloudevents:
            async for record in found.records(after=after, follow=follow):
                click.echo(record.data if raw else msgspec.json.encode(to_cloudevent(record)))
        elif output == "table":
            # From the first event on, because later lines refer to earlier ones.
            await _for_people(found.id, found.records(follow=follow), after)
        elif output == "json":
            click.echo(encode([entry(record) async for record in found.records(after=after, follow=False)], output))
        else:
            async for record in found.records(after=after, follow=follow):
                emit_lines([entry(record)], output)

    using_session(session, show)


async def _for_people(name: str, records: AsyncIterator[Record], after: int) -> None:
    live = Live(console(), name)
    async for record in records:
        live.show(happening(record), is_silent=record.seq <= after)
