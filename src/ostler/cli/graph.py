"""The knowledge graph that agents build: what is related to what, how, and who says so."""

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ostler.app.graph import (
    Centrality,
    Communities,
    Cycles,
    GraphDesk,
    Ranks,
    RelationView,
    neighbourhood_view,
)
from ostler.app.graph import Path as Way
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, using_runtime
from ostler.cli.groups import Scattered
from ostler.cli.memory import moment_us
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.scopes import Whose, scope_options
from ostler.cli.words import count, short, whole
from ostler.domain.knowledge.graph import Direction
from ostler.domain.knowledge.picture import picture
from ostler.domain.knowledge.tree import MARK, tree
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import UsageError
from ostler.runtime.memory.graphs import Around, Extent

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

ELSEWHERE = {
    "export": ("ostler.cli.graph_files:export", "Write the graph to a file: JSON, GraphML, DOT or a picture."),
    "import": ("ostler.cli.graph_files:import_", "Remember what a graph in a file states."),
}
DIRECTIONS = ("out", "in", "both")


@click.group(cls=Scattered, elsewhere=ELSEWHERE)
def graph() -> None:
    """See how the things are related that agents know of, and ask about it.

    The graph is made of the relations that facts state; what is told of them are the ids of these facts (`ostler memory
    show`). It is that of an agent (--agent), of what it keeps for one user (--agent, --user), of a session (--session)
    or of all agents of a tenant (--shared), each with those that it lies in. What only untrusted text says is marked.
    """


def extent_options(command: F) -> F:
    """Adds what narrows the graph down to a command."""
    for option in (
        click.option("--as-of", metavar="WHEN", help="As it was then: a position of the log, or a moment."),
        click.option("--valid-at", metavar="TIME", callback=moment_us, help="Only what was true in the world then."),
        click.option("--relation", "relations", multiple=True, metavar="NAME", help="Only this one; repeatable."),
    ):
        command = option(command)
    return command


def direction_option(default: str) -> Callable[[F], F]:
    """Adds `--direction` to a command."""
    return click.option(
        "--direction",
        type=click.Choice(DIRECTIONS),
        default=default,
        show_default=True,
        help="Follow relations as they point, against it, or either way.",
    )


def at_graph(
    acting: str | None,
    whose: Whose,
    which: dict[str, Any],
    work: Callable[[GraphDesk, Scope, Extent], Coroutine[Any, Any, T]],
    *,
    makes_store: bool = False,
) -> T:
    """What `work` returns, given the graph of a scope in the tenant of whoever acts, and what of it is meant."""

    async def act(runtime: Runtime) -> T:
        by = await acting_principal(runtime, acting)
        scope = await whose.scope(runtime, by)
        async with GraphDesk.open(runtime.parts, by) as desk:
            as_of, valid_at, relations = (which.get(name) for name in ("as_of", "valid_at", "relations"))
            extent = await desk.extent(scope, as_of=as_of, valid_at_us=valid_at, relations=relations or ())
            return await work(desk, scope, extent)

    return using_runtime(act, makes_store=makes_store)


@graph.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--depth", default=1, show_default=True, type=click.IntRange(1, 10), help="How many steps away at most.")
@direction_option("both")
@click.option(
    "--limit", "-n", default=200, show_default=True, type=click.IntRange(1, 10_000), help="How many relations."
)
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Also draw it into this file.")
@scope_options
@extent_options
@acting_option
@output_options
def show(
    names: tuple[str, ...],
    depth: int,
    direction: Direction,
    limit: int,
    svg: Path | None,
    whose: Whose,
    acting: str | None,
    output: Format,
    **which: Any,
) -> None:
    """Show what NAME is related to, as a tree."""

    async def ask(desk: GraphDesk, scope: Scope, extent: Extent) -> Around:
        return await desk.around(scope, names, depth=depth, direction=direction, extent=extent, limit=limit)

    found = at_graph(acting, whose, which, ask)
    emit(neighbourhood_view(found), output, lambda: _plain(list(tree(found.graph, names, depth))))
    if found.is_cut:
        say(f"There is more: only the nearest {limit} relations are shown (--limit).")
    if svg is not None:
        write(svg, picture(found.graph, asked=names, title=", ".join(names)))


@graph.command()
@click.argument("start")
@click.argument("goal")
@click.option("--by-weight", is_flag=True, help="The smallest sum of weights, instead of the fewest steps.")
@direction_option("out")
@scope_options
@extent_options
@acting_option
@output_options
def path(
    start: str,
    goal: str,
    by_weight: bool,
    direction: Direction,
    whose: Whose,
    acting: str | None,
    output: Format,
    **which: Any,
) -> None:
    """Find a shortest way from START to GOAL along relations.

    The exit code is 0 whether there is one or not.
    """

    async def ask(desk: GraphDesk, scope: Scope, extent: Extent) -> Way:
        return await desk.path(scope, start, goal, by_weight=by_weight, direction=direction, extent=extent)

    found = at_graph(acting, whose, which, ask)
    if not found.is_found and output == "table":
        either = "" if direction == "both" else " Relations may lead there the other way: --direction both"
        say(f"No way leads from {start} to {goal}.{either}")
        return
    emit(found, output, lambda: _relations(found.relations))
    if output == "table":
        say(f"{count(len(found.relations), 'step')}, weights of {found.cost:g} together.")


@graph.command()
@click.option(
    "--by",
    type=click.Choice(["degree", "betweenness"]),
    default="degree",
    show_default=True,
    help="By the number of relations, or by how many shortest ways lead through.",
)
@click.option(
    "--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many entities."
)
@scope_options
@extent_options
@acting_option
@output_options
def rank(by: Centrality, limit: int, whose: Whose, acting: str | None, output: Format, **which: Any) -> None:
    """List the most central entities.

    Betweenness is exact up to 2,000 entities; of more it is estimated from a sample, and says so.
    """

    async def ask(desk: GraphDesk, scope: Scope, extent: Extent) -> Ranks:
        return await desk.rank(scope, by, limit=limit, extent=extent)

    found = at_graph(acting, whose, which, ask)
    rows = [(short(one.name), f"{one.value:.4f}") for one in found.ranks]
    emit(found, output, lambda: Rows("entity…", f"{by}>", rows=rows))
    if found.is_sampled:
        say(f"An estimate, from the ways that begin at {found.pivots} of {found.entities:,} entities.")


@graph.command()
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@scope_options
@extent_options
@acting_option
@output_options
def communities(limit: int, whose: Whose, acting: str | None, output: Format, **which: Any) -> None:
    """List groups of entities that are closely related, the largest first.

    Those of a group are related to one another more than to others.
    """

    async def ask(desk: GraphDesk, scope: Scope, extent: Extent) -> Communities:
        return await desk.communities(scope, extent=extent)

    found = at_graph(acting, whose, which, ask)
    shown = Communities(found.communities[:limit])
    rows = [(str(len(names)), short(", ".join(names))) for names in shown.communities]
    emit(shown, output, lambda: Rows("entities>", "who…", rows=rows))
    if len(found.communities) > limit:
        say(f"{count(len(found.communities), 'group')} in all (--limit).")


@graph.command()
@scope_options
@extent_options
@acting_option
@output_options
def cycles(whose: Whose, acting: str | None, output: Format, **which: Any) -> None:
    """Say whether relations go round in circles, and in what order entities come if they do not."""

    async def ask(desk: GraphDesk, scope: Scope, extent: Extent) -> Cycles:
        return await desk.cycles(scope, extent=extent)

    found = at_graph(acting, whose, which, ask)
    if found.is_cyclic:
        emit(found, output, lambda: _relations(found.cycle))
        say("These relations are a cycle; there may be others.")
        return
    emit(found, output, lambda: _plain(found.order))
    say("There is no cycle: each entity stands before those that it is related to.")


def write(file: Path, text: str) -> None:
    """Raises `UsageError` if the file cannot be written."""
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
    say(f"Written to {file}.")


def _relations(found: Sequence[RelationView]) -> Rows:
    rows = [
        (
            short(one.subject),
            short(one.relation),
            short(one.object),
            f"{one.weight:g}",
            MARK if one.is_untrusted else "",
            one.id,
        )
        for one in found
    ]
    return Rows("subject…", "relation…", "object…", "weight>", "", "fact", rows=rows)


def _plain(lines: Sequence[str]) -> Any:
    from rich.text import Text

    return Text("\n".join(map(whole, lines)), overflow="ellipsis", no_wrap=True)
