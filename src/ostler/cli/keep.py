"""Commands that prove and move logs: replay, verify, export, import."""

from collections.abc import Sequence
from typing import BinaryIO

import click

import ostler
from ostler.app.service import Runtime
from ostler.app.transfer import Imported
from ostler.app.transfer import export as exported
from ostler.app.transfer import import_ as imported
from ostler.app.verify import Rehearsed, Verified, rehearse, stream_ids
from ostler.app.verify import verify as verified
from ostler.cli.base import find_session, is_worker, using_runtime
from ostler.cli.exits import Exit
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.domain.identity import LOCAL_USER
from ostler.kernel.event import StreamId


async def _named(runtime: Runtime, sessions: Sequence[str]) -> list[StreamId]:
    return [(await find_session(runtime, name)).stream for name in sessions]


async def _logs(runtime: Runtime, names: Sequence[str]) -> list[StreamId]:
    """As `_named`, and workers as well."""
    return [
        StreamId(LOCAL_USER.tenant, name) if is_worker(name) else (await find_session(runtime, name)).stream
        for name in names
    ]


@click.command()
@click.argument("sessions", metavar="SESSION...", nargs=-1, required=True)
@output_options
def replay(sessions: tuple[str, ...], output: Format) -> None:
    """Decide recorded sessions again, without the world.

    The chain of each log is verified, its state folded twice, and every decision in it made anew by today's code. No
    model, tool or network is reached. Exit code 8 if anything comes out otherwise than it is recorded.
    """

    async def work(runtime: Runtime) -> list[Rehearsed]:
        return [await rehearse(runtime.parts.journal, stream) for stream in await _named(runtime, sessions)]

    done = using_runtime(work)
    emit(done, output, lambda: _rehearsed(done))
    say("Everything came out as it is recorded.")


def _rehearsed(done: Sequence[Rehearsed]) -> Rows:
    rows = [
        (one.session, one.status, str(one.events), str(one.decisions), str(one.adopted), one.digest) for one in done
    ]
    return Rows("session", "status", "events>", "decided again>", "adopted>", "digest of the state", rows=rows)


@click.command()
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@click.option("--all", "-a", "is_all", is_flag=True, help="Every log of the store (so it is when none is named).")
@output_options
def verify(sessions: tuple[str, ...], is_all: bool, output: Format) -> None:
    """Prove that logs are whole and unaltered, and that every body they refer to is there.

    Exit code 8 if any is not.
    """
    if is_all and sessions:
        raise click.UsageError("Name sessions or give --all, not both.")

    async def work(runtime: Runtime) -> list[Verified]:
        parts = runtime.parts
        wanted = await _logs(runtime, sessions) if sessions else await stream_ids(parts.store, LOCAL_USER.tenant)
        return [await verified(parts.store, parts.blobs, stream) for stream in wanted]

    done = using_runtime(work)
    emit(done, output, lambda: _verified(done))
    broken = [one for one in done if not one.is_whole]
    if broken:
        say(f"{len(broken)} of {len(done)} logs are damaged. Restore the store from a backup.")
        raise click.exceptions.Exit(Exit.DIVERGED)
    say(f"All {len(done)} logs are whole.")


def _verified(done: Sequence[Verified]) -> Rows:
    rows = [
        (one.stream, str(one.events), str(one.blobs), one.head[:16], "; ".join(one.problems) or "whole") for one in done
    ]
    return Rows("log", "events>", "bodies>", "head", "verdict~", rows=rows)


@click.command()
@click.argument("sessions", metavar="SESSION...", nargs=-1, required=True)
@click.option("--to", "file", type=click.File("wb"), default="-", metavar="FILE", help="Where to write it.")
def export(sessions: tuple[str, ...], file: BinaryIO) -> None:
    """Write sessions to a self-contained file of JSON lines, which `ostler import` proves and takes in."""

    async def work(runtime: Runtime) -> int:
        parts, lines = runtime.parts, 0
        streams = await _named(runtime, sessions)
        async for line in exported(parts.journal, parts.blobs, streams, written_by=f"ostler {ostler.__version__}"):
            file.write(line + b"\n")
            lines += 1
        return lines

    lines = using_runtime(work)
    say(f"Exported {len(sessions)} session{'s' if len(sessions) != 1 else ''} in {lines} lines.")


@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--resume", is_flag=True, help="Let workers go on with sessions that had not ended.")
@output_options
def import_(file: BinaryIO, resume: bool, output: Format) -> None:
    """Read sessions from a file that `ostler export` has written (- is standard input).

    Everything in it is proved before anything is written, and nothing is overwritten. Sessions keep their ids. One that
    had not ended does not start by itself, since it may still be running where it came from: `ostler resume` goes on
    with it here.
    """

    async def work(runtime: Runtime) -> list[Imported]:
        parts = runtime.parts
        return await imported(parts.journal, parts.blobs, file, now_us=parts.clock.now_us(), resume=resume)

    done = using_runtime(work, makes_store=True)
    emit(done, output, lambda: _imported(done))
    for one in done:
        if one.is_live and not resume:
            say(f"{one.session} has not ended. If it runs nowhere else, go on with: ostler resume {one.session}")


def _imported(done: Sequence[Imported]) -> Rows:
    rows = [(one.session, one.status, str(one.events), str(one.blobs)) for one in done]
    return Rows("session", "status", "events>", "bodies>", rows=rows)
