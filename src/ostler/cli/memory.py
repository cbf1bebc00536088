"""What agents remember: listing it, searching it, and why it is found."""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from ostler.app.memory import Found, MemoryDesk, Search, Stats, Told
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, using_runtime
from ostler.cli.groups import Scattered
from ostler.cli.output import Format, Rows, blocks, emit, emit_lines, output_options, say
from ostler.cli.scopes import Whose, scope_options
from ostler.cli.words import age, count, short, whole
from ostler.domain.identity import Principal
from ostler.domain.memory.scope import Scope
from ostler.domain.provenance import UNTRUSTED
from ostler.kernel.event import moment
from ostler.ports.memory import Filter

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

ELSEWHERE = {
    "forget": ("ostler.cli.memory_change:forget", "Take memories out of force."),
    "restore": ("ostler.cli.memory_change:restore", "Put memories in force again."),
    "pin": ("ostler.cli.memory_change:pin", "Say that memories never make room for others."),
    "rollback": ("ostler.cli.memory_change:rollback", "Take back what a session or a tool has put into memory."),
    "consolidate": ("ostler.cli.memory_consolidate:consolidate", "Merge, promote and let go of memories now."),
    "erase": ("ostler.cli.memory_erase:erase", "Erase memories for good, and what was made of them."),
    "rebuild": ("ostler.cli.memory_change:rebuild", "Fill the index of memories anew from the log."),
}
KINDS = ("episode", "fact", "file")


@click.group(cls=Scattered, elsewhere=ELSEWHERE)
def memory() -> None:
    """See what agents remember, and take it back.

    Memories belong to an agent (--agent), to what it keeps for one user (--agent, --user), to a session (--session) or
    to all agents of a tenant (--shared); there is nothing that means all of them. A user is whoever a session was
    started for (`ostler run --as ada`), else `local`. What agents keep for oneself one may see and change; for all else
    it takes the scopes memory.read and memory.write, and for erasing memory.erase.
    """


def at_desk(
    acting: str | None,
    work: Callable[[Runtime, Principal, MemoryDesk], Coroutine[Any, Any, T]],
    *,
    makes_store: bool = False,
) -> T:
    """What `work` returns, given the memories of the tenant of whoever acts."""

    async def act(runtime: Runtime) -> T:
        by = await acting_principal(runtime, acting)
        return await work(runtime, by, await MemoryDesk.open(runtime.parts, by))

    return using_runtime(act, makes_store=makes_store)


def filter_options(command: F) -> F:
    """Adds what narrows memories down to a command."""
    for option in (
        click.option("--as-of", metavar="WHEN", help="As it was then: a position of the log, or a moment."),
        click.option("--valid-at", metavar="TIME", callback=moment_us, help="Only what was true in the world then."),
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only with this tag; repeatable."),
        click.option("--kind", type=click.Choice(KINDS), help="Only of this kind."),
    ):
        command = option(command)
    return command


def moment_us(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """What a moment that was given as an option means. Raises `click.BadParameter`."""
    if text is None:
        return None
    at_us = moment(text)
    if at_us is None:
        raise click.BadParameter(f"{text!r} is no date or moment.", ctx, parameter)
    return at_us


async def _filter(
    desk: MemoryDesk,
    scopes: Sequence[Scope],
    *,
    kind: str | None,
    tags: tuple[str, ...],
    as_of: str | None,
    valid_at: int | None,
    closed: bool = False,
) -> Filter:
    return Filter(
        kinds=() if kind is None else (kind,),  # type: ignore[arg-type]
        all_of=tags,
        as_of=None if as_of is None else await desk.position(scopes, as_of),
        valid_at_us=valid_at,
        is_closed_too=closed,
    )


@memory.command("list")
@scope_options
@filter_options
@click.option("--closed", is_flag=True, help="Also what is not in force any more.")
@click.option("--limit", "-n", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@click.option("--before", type=click.IntRange(1), metavar="POSITION", help="Go on below this position.")
@acting_option
@output_options
def list_(whose: Whose, limit: int, before: int | None, acting: str | None, output: Format, **which: Any) -> None:
    """List the memories of one scope, the newest first."""

    async def ask(runtime: Runtime, by: Principal, desk: MemoryDesk) -> list[Told]:
        scope = await whose.scope(runtime, by)
        return await desk.page(scope, await _filter(desk, [scope], **which), before=before, limit=limit)

    found = at_desk(acting, ask)
    if not found and output == "table":
        say("Nothing is remembered here.")
        say("`ostler memory stats` lists whose memories there are.")
        return
    emit(found, output, lambda: _table(found))
    if len(found) == limit:
        say(f"There may be more: --before {found[-1].position}")


@memory.command()
@click.argument("query")
@scope_options
@filter_options
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@click.option("--tokens", type=click.IntRange(1), help="How many tokens of text at most.")
@acting_option
@output_options
def search(
    query: str, whose: Whose, limit: int, tokens: int | None, acting: str | None, output: Format, **which: Any
) -> None:
    """Find what a session would recall for QUERY.

    Of this scope, and of those that it lies in. It is not counted as recalled.
    """
    found = _searched(query, whose, acting, which, limit=limit, tokens=tokens)
    emit(found, output, lambda: _results(found))
    _say_missing(found)


@memory.command()
@click.argument("query")
@scope_options
@filter_options
@click.option("--limit", "-n", default=5, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@acting_option
@output_options
def explain(query: str, whose: Whose, limit: int, acting: str | None, output: Format, **which: Any) -> None:
    """Say why what is found stands where it does.

    The score is made of relevance (which counts most by far), recency, importance and frequency, each from 0 to 1; the
    relevance of how well the words fit, those of what happened just before and after, the vector, and the relations of
    the knowledge graph.
    """
    found = _searched(query, whose, acting, which, limit=limit, tokens=None)
    emit(found, output, lambda: blocks([_explained(one) for one in found.found]))
    _say_missing(found)


@memory.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@acting_option
@output_options
def show(ids: tuple[str, ...], acting: str | None, output: Format) -> None:
    """Show memories whole.

    What they say, where they came from, and what became of them.
    """

    async def ask(runtime: Runtime, by: Principal, desk: MemoryDesk) -> list[Told]:
        return await desk.get(ids)

    found = at_desk(acting, ask)
    emit(found, output, lambda: blocks([_shown(one) for one in found]))


@memory.command()
@scope_options
@click.option("--closed", is_flag=True, help="Also what is not in force any more.")
@acting_option
def export(whose: Whose, closed: bool, acting: str | None) -> None:
    """Write the memories of one scope as JSON lines.

    All of them, with their labels and where they came from.
    """

    async def write(runtime: Runtime, by: Principal, desk: MemoryDesk) -> int:
        scope = await whose.scope(runtime, by)
        return await _write_lines(desk.every(scope, Filter(is_closed_too=closed)))

    written = at_desk(acting, write)
    say(f"{count(written, 'memory')} written.")


async def _write_lines(found: AsyncIterator[Told]) -> int:
    number = 0
    async for one in found:
        emit_lines([one])
        number += 1
    return number


@memory.command()
@scope_options
@acting_option
@output_options
def stats(whose: Whose, acting: str | None, output: Format) -> None:
    """Show how much is remembered, and by whom.

    In one scope, or in each scope of the tenant if none is named.
    """

    async def ask(runtime: Runtime, by: Principal, desk: MemoryDesk) -> Stats:
        return await desk.stats(await whose.scope(runtime, by) if whose.is_named else None)

    found = at_desk(acting, ask)
    if found.scopes or output != "table":
        emit(found, output, lambda: _counts(found))
    else:
        say("Nothing is remembered yet.")
    if found.problem:
        say(f"Nothing is found by vectors at the moment ({found.embedder}): {found.problem}")


def _searched(
    query: str, whose: Whose, acting: str | None, which: dict[str, Any], *, limit: int, tokens: int | None
) -> Search:
    async def ask(runtime: Runtime, by: Principal, desk: MemoryDesk) -> Search:
        scope = await whose.scope(runtime, by)
        narrowed = await _filter(desk, scope.visible, **which)
        return await desk.search(scope, query, narrowed, limit=limit, tokens=tokens)

    return at_desk(acting, ask)


def _say_missing(found: Search) -> None:
    for problem in found.missing:
        say(f"Not asked: {problem}")
    if not found.found:
        say("Nothing that is remembered here bears on this.")
    elif found.left_out:
        say(f"{found.left_out} more were left out.")


def _table(found: Sequence[Told]) -> Rows:
    now = datetime.now(UTC)
    rows = [
        (
            one.id,
            one.kind,
            age(one.happened, now),
            f"{one.strength:.2f}",
            str(one.recalls),
            marks(one),
            short(one.text),
        )
        for one in found
    ]
    return Rows("id", "kind", "age", "strength>?", "recalled>?", "", "text…", rows=rows)


def marks(one: Told) -> str:
    """What is to be known of a memory before its text is believed."""
    said = [
        "untrusted" if UNTRUSTED in one.labels else "",
        "contradicted" if one.contradicts else "",
        "pinned" if one.is_pinned else "",
        one.ended_by.partition(" ")[0],
    ]
    return ", ".join(word for word in said if word)


def _results(found: Search) -> Rows:
    rows = [
        (
            one.memory.id,
            f"{one.score:.3f}",
            *(f"{one.lanes.get(lane, 0):.2f}" for lane in ("relevance", "recency", "importance", "frequency")),
            marks(one.memory),
            short(one.memory.text),
        )
        for one in found.found
    ]
    lanes = ("relevance>?", "recency>?", "importance>?", "frequency>?")
    return Rows("id", "score>", *lanes, "", "text…", rows=rows)


def _explained(one: Found) -> list[tuple[str, str]]:
    lanes = [(name, f"{value:.4f}") for name, value in one.lanes.items()]
    beside = [("why", "it happened just before or after what was found")] if one.is_neighbour else []
    told = one.memory
    return [("id", told.id), ("text", whole(told.text)), ("score", f"{one.score:.4f}"), *lanes, *beside]


def _shown(one: Told) -> list[tuple[str, str]]:
    relation = one.relation
    stated = "" if relation is None else f"{relation.subject} –{relation.name}→ {relation.object}"
    return [
        ("id", one.id),
        ("kind", one.kind),
        ("text", whole(one.text)),
        ("states", whole(stated)),
        ("of", " / ".join(part for part in (one.agent, one.user, one.session) if part) or "all agents of the tenant"),
        ("written by", one.writer),
        ("in the call", one.call),
        ("made of words of", ", ".join(one.sources)),
        ("made of", ", ".join(one.made_of)),
        ("labels", ", ".join(one.labels)),
        ("happened", one.happened),
        ("remembered", f"{one.remembered} at position {one.position}"),
        ("true from", one.valid_from),
        ("true to", one.valid_to),
        ("importance", f"{one.importance:g}"),
        ("strength", f"{one.strength:.4f}"),
        ("recalled", count(one.recalls, "time")),
        ("tags", ", ".join(one.tags)),
        ("key", one.key),
        ("caused by", one.caused_by),
        ("contradicts", ", ".join(one.contradicts)),
        ("pinned", "yes" if one.is_pinned else ""),
        ("ended", one.ended_by.replace("superseded mem_", "superseded by mem_")),
    ]


def _counts(found: Stats) -> Rows:
    rows = [
        (
            one.level,
            one.agent or "–",
            one.user or "–",
            one.session or "–",
            str(one.episodes),
            str(one.facts),
            str(one.files),
            str(one.closed),
            str(one.vectors.get(found.embedder, 0)) if found.embedder else "–",
            f"{one.text_bytes:,}",
            str(one.relations),
            str(one.recalls),
        )
        for one in found.scopes
    ]
    columns = ("level?", "agent", "user", "session", "episodes>", "facts>", "files>?", "closed>?", "vectors>?")
    return Rows(*columns, "bytes>?", "relations>?", "recalled>?", rows=rows)
