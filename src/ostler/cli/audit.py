"""Commands that prove the log to those who do not trust its keeper: key, checkpoint, export, prove, verify."""

import os
from collections.abc import Callable, Coroutine, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

import ostler
from ostler.app.audit.checkpoint import Signed, sign_checkpoint
from ostler.app.audit.export import Cut, cut_by_checkpoints
from ostler.app.audit.export import export as exported
from ostler.app.audit.keys import VARIABLE, key_file, make_key, read_key
from ostler.app.audit.lines import read_lines
from ostler.app.audit.note import VerifierKey, read_verifier_key
from ostler.app.audit.proof import FIRST_LINE, verify_proof
from ostler.app.audit.proof import prove as proof_of
from ostler.app.audit.tree import Tree
from ostler.app.audit.verify import Check, Outside, Verifier, verify_store
from ostler.app.audit.verify import verify as verified
from ostler.app.service import Runtime
from ostler.app.world import SystemEntropy
from ostler.cli.base import using_runtime
from ostler.cli.exits import Exit
from ostler.cli.output import Format, Rows, blocks, emit, output_options, say
from ostler.cli.store import Progress
from ostler.cli.words import count, whole
from ostler.domain.identity import DEFAULT_TENANT, LOCAL_USER
from ostler.kernel.errors import Conflict, UsageError
from ostler.kernel.event import StreamId, moment

KEY_HELP = f"The file of the private key. Otherwise {VARIABLE} names it, or it is ~/.config/ostler/audit.key."
_tenant = click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose log it is.")
_key = click.option("--key", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=KEY_HELP)


class Key(msgspec.Struct, frozen=True):
    """A key of which only the public half is shown."""

    file: str
    verifier_key: str


class Written(msgspec.Struct, frozen=True):
    """An audit file that was written."""

    file: str
    lines: int
    size: int
    start: int
    end: int


def _moment_us(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    at_us = moment(text)
    if at_us is None:
        raise click.BadParameter(f"{text!r} is no date or moment.", ctx, parameter)
    return at_us


@click.group()
def audit() -> None:
    """Prove the log to others: sign checkpoints, take a period along with its proofs, verify it anywhere."""


@audit.command()
@_key
@click.option(
    "--name", default="ostler", show_default=True, help="What a new key is called, best by a domain of yours."
)
@_tenant
@output_options
def key(file: Path | None, name: str, tenant: str, output: Format) -> None:
    """Make the key that checkpoints are signed with, if there is none, and show the verifier key that belongs to it.

    The file is as good as your signature: keep it away from the store and from whoever may write to it. The verifier
    key is for everybody who is to check what you sign for this tenant.
    """
    path = key_file(file, os.environ)
    is_new = not path.exists()
    own = make_key(path, name, SystemEntropy()) if is_new else read_key(path)
    shown = Key(str(path), str(own.verifier(tenant)))
    emit(shown, output, lambda: blocks([[("file", shown.file), ("verifier key", shown.verifier_key)]]))
    say("A new key was made." if is_new else "The key was there already.")


@audit.command()
@_tenant
@_key
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it to this new file."
)
@output_options
def checkpoint(tenant: str, file: Path | None, out: Path | None, output: Format) -> None:
    """Sign for all that is in the log now, and print the checkpoint.

    Keep it where nobody who can write to the store can reach it: only against checkpoints that are kept elsewhere can
    it be proved that a log was not cut short or written anew as a whole.
    """
    own = read_key(key_file(file, os.environ))

    async def work(runtime: Runtime) -> Signed:
        parts, tree = runtime.parts, Tree(runtime.parts.store, runtime.parts.views)
        await tree.catch_up(Progress(await parts.store.head()))
        return await sign_checkpoint(parts.store, tree, parts.clock, own, tenant=tenant, by=LOCAL_USER.id)

    signed = using_runtime(work)
    if output == "table":
        click.echo(signed.note, nl=False)
    else:
        emit(signed, output, lambda: "")
    if out is not None:
        with _new(out) as opened:
            opened.write(signed.note.encode())
    say(f"Signed for {count(signed.size, 'event')} of {tenant}.")


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "from_us", metavar="TIME", callback=_moment_us, help="The period begins here.")
@click.option("--to", "to_us", metavar="TIME", callback=_moment_us, help="The period ends here.")
@click.option("--session", "sessions", multiple=True, metavar="ID", help="Only this session; may be repeated.")
@_tenant
@output_options
def export(
    file: Path, from_us: int | None, to_us: int | None, sessions: tuple[str, ...], tenant: str, output: Format
) -> None:
    """Write a period of the log to a new FILE, with all that `ostler audit verify` needs to prove it elsewhere.

    TIME is a date or a moment, 2026-11-21 or 2026-11-21T08:00:00+01:00, in UTC if it does not say. The file reaches
    from the last checkpoint at or before --from (or the first event) to the first at or after --to (or the last one).
    """

    async def work(runtime: Runtime) -> Written:
        store, tree = runtime.parts.store, Tree(runtime.parts.store, runtime.parts.views)
        await tree.catch_up()
        full = [(await runtime.session(name)).id for name in sessions] if tenant == DEFAULT_TENANT else sessions
        cut = await cut_by_checkpoints(store, tree, tenant, from_us=from_us, to_us=to_us, sessions=full)
        return await _write(runtime, tree, cut, file)

    done = using_runtime(work)
    emit(done, output, lambda: Rows("file", "leaves>", rows=[(done.file, f"{done.start:,}–{done.end:,}")]))
    say(f"Wrote {count(done.lines, 'line')}. Anybody can check them: ostler audit verify {file} --key VERIFIER-KEY")


@audit.command()
@click.argument("event", metavar="SESSION/SEQ")
@_tenant
def prove(event: str, tenant: str) -> None:
    """Print the proof that one event is in the log that was signed for, which tells nothing of any other event.

    SEQ is its number, as `ostler logs` shows it. Anybody can check the proof with `ostler audit verify`, or with any
    tool that knows the format c2sp.org/tlog-proof.
    """
    session, seq = _decision(event)

    async def work(runtime: Runtime) -> str:
        store, tree = runtime.parts.store, Tree(runtime.parts.store, runtime.parts.views)
        await tree.catch_up()
        name = (await runtime.session(session)).id if tenant == DEFAULT_TENANT else session
        return await proof_of(store, tree, StreamId(tenant, name), seq)

    click.echo(using_runtime(work), nl=False)


async def _write(runtime: Runtime, tree: Tree, cut: Cut, file: Path) -> Written:
    encode, lines, store = msgspec.json.Encoder().encode, 0, runtime.parts.store
    written_by, progress = f"ostler {ostler.__version__}", Progress(cut.size)
    with _new(file) as opened:
        try:
            async for line in exported(store, tree, cut, written_by=written_by, progress=progress):
                opened.write(encode(line) + b"\n")
                lines += 1
        except BaseException:
            file.unlink()
            raise
    return Written(str(file), lines, cut.size, *cut.period)


@audit.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--key", "keys", multiple=True, metavar="VKEY", help="A verifier key that counts, or a file with one.")
@click.option(
    "--checkpoint",
    "notes",
    multiple=True,
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    metavar="NOTE",
    help="A file with a checkpoint that was kept elsewhere; may be repeated.",
)
@click.option("--decision", "decisions", multiple=True, metavar="SESSION/SEQ", help="Show this event with its place.")
@_tenant
@output_options
def verify(
    file: BinaryIO | None,
    keys: tuple[str, ...],
    notes: tuple[Path, ...],
    decisions: tuple[str, ...],
    tenant: str,
    output: Format,
) -> None:
    """Judge a FILE that `ostler audit export` or `prove` has written; without one, the log of the store as it is now.

    A file needs no store and may come from anywhere. Exit code 8 if anything fails. What is unchecked, because a key
    or a checkpoint was not given, proves nothing.
    """
    outside = [Outside(str(path), path.read_text("utf-8", errors="replace")) for path in notes]
    verifier = Verifier(
        keys=[_verifier_key(text) for text in keys],
        outside=outside,
        decisions=[_decision(text) for text in decisions],
        is_store=file is None,
    )
    checks = _judge(file, verifier) if file else using_runtime(_judging(verifier, tenant))
    emit(checks, output, lambda: _checked(checks))
    failed = [check for check in checks if check.outcome == "fails"]
    if failed:
        say(f"{len(failed)} of {count(len(checks), 'check')} failed.")
        raise click.exceptions.Exit(Exit.DIVERGED)
    unchecked = [check.name for check in checks if check.outcome == "unchecked"]
    say("Everything holds" + (f", but nothing is known of: {', '.join(unchecked)}." if unchecked else "."))


def _judge(file: BinaryIO, verifier: Verifier) -> list[Check]:
    """The checks of a file, of either kind."""
    first = file.readline()
    if first.decode(errors="replace").rstrip() == FIRST_LINE:
        if verifier.asks_more:
            raise UsageError("The proof of one event shows no other, and no other checkpoint.", hint="Give --key only.")
        return verify_proof((first + file.read()).decode(errors="replace"), verifier.keys)
    return verified(read_lines(chain([first] if first else [], file)), verifier)


def _judging(verifier: Verifier, tenant: str) -> Callable[[Runtime], Coroutine[Any, Any, list[Check]]]:
    async def work(runtime: Runtime) -> list[Check]:
        tree = Tree(runtime.parts.store, runtime.parts.views)
        progress = Progress(await runtime.parts.store.head())
        return await verify_store(runtime.parts.store, tree, tenant, verifier, progress=progress)

    return work


def _checked(checks: Sequence[Check]) -> Rows:
    rows = [(check.name, check.outcome, whole(check.found), check.proves) for check in checks]
    return Rows("check", "outcome", "found~", "proves, if it holds~", rows=rows)


def _verifier_key(text: str) -> VerifierKey:
    path = Path(text)
    return read_verifier_key(path.read_text("utf-8", errors="replace") if "+" not in text and path.is_file() else text)


def _decision(text: str) -> tuple[str, int]:
    session, _, seq = text.rpartition("/")
    if not session or not seq.isdecimal():
        raise UsageError(f"{text!r} names no event.", hint="Write SESSION/SEQ, as `ostler logs SESSION` shows them.")
    return session, int(seq)


def _new(file: Path) -> BinaryIO:
    try:
        return file.open("xb")
    except FileExistsError as error:
        raise Conflict(f"{file} is there already, and nothing is overwritten.", hint="Name another file.") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
