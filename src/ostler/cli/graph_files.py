"""Handing a knowledge graph over to others, and taking one in."""

import sys
from pathlib import Path
from typing import Any

import click

from ostler.app.graph import GraphDesk, Imported
from ostler.cli.base import acting_option
from ostler.cli.graph import at_graph, extent_options, write
from ostler.cli.output import Format, Rows, emit, output_options, say
from ostler.cli.scopes import Whose, scope_options
from ostler.domain.knowledge.dot import to_dot
from ostler.domain.knowledge.exchange import Exchange, from_json, to_json
from ostler.domain.knowledge.graphml import from_graphml, to_graphml
from ostler.domain.knowledge.picture import picture
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import UsageError
from ostler.runtime.memory.graphs import Extent

WRITERS = {"json": to_json, "graphml": to_graphml, "dot": to_dot}
READERS = {"json": from_json, "graphml": from_graphml}


def _form(file: Path | None, form: str | None, known: list[str]) -> str:
    """What was named, else what the name of the file ends with. Raises `UsageError`."""
    found = form or ("json" if file is None else file.suffix.lower().removeprefix("."))
    if found not in known:
        endings = " or ".join(f".{one}" for one in known)
        raise UsageError(f"{file} does not end in {endings}.", hint=f"Name its form: --form {'|'.join(known)}.")
    return found


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--form", type=click.Choice([*WRITERS, "svg"]), help="By default that of the file's name, else json.")
@scope_options
@extent_options
@acting_option
def export(file: Path | None, form: str | None, whose: Whose, acting: str | None, **which: Any) -> None:
    """Write the whole graph to FILE, or to standard output.

    As node-link JSON (NetworkX), GraphML (Gephi, yEd, Cytoscape), DOT (Graphviz) or, up to 200 entities, as a picture.
    JSON and GraphML keep everything that the graph says and can be imported.
    """
    chosen = _form(file, form, [*WRITERS, "svg"])

    async def ask(desk: GraphDesk, scope: Scope, extent: Extent) -> str:
        if chosen == "svg":
            return picture(await desk.graph(scope, extent=extent), title=f"Knowledge graph of {scope}")
        return WRITERS[chosen](await desk.exchange(scope, extent=extent))

    text = at_graph(acting, whose, which, ask)
    if file is None:
        click.echo(text.encode(), nl=False)
    else:
        write(file, text)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--form", type=click.Choice(list(READERS)), help="By default that of the file's name, else json.")
@click.option("--untrusted", is_flag=True, help="Nobody vouches for it: label everything untrusted.")
@scope_options
@acting_option
@output_options
def import_(file: Path, form: str | None, untrusted: bool, whose: Whose, acting: str | None, output: Format) -> None:
    """Remember what the graph in FILE (- is standard input) states: each relation once, however often it is read.

    All of it can be taken back: `ostler memory rollback --source import:FILE`.
    """
    is_piped = str(file) == "-"
    chosen = _form(None if is_piped else file, form, list(READERS))
    exchange = READERS[chosen](_read(file, is_piped=is_piped))

    async def work(desk: GraphDesk, scope: Scope, extent: Extent) -> Imported:
        return await desk.take_in(
            scope, exchange, name=file.name, is_trusted=not untrusted, progress=_progress(exchange)
        )

    found = at_graph(acting, whose, {}, work, makes_store=True)
    emit(found, output, lambda: _counts(found))
    if found.ended:
        say(f"{found.ended:,} of the known are not in force: they were forgotten, rolled back or superseded.")
        say("`ostler memory list --closed` lists them, `ostler memory restore` puts them back.")


def _read(file: Path, *, is_piped: bool) -> str:
    try:
        return (sys.stdin.buffer.read() if is_piped else file.read_bytes()).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8.") from error


def _progress(exchange: Exchange) -> Any:
    """Tells people at a terminal how far it is."""
    total = len(exchange.statements)

    def tell(done: int) -> None:
        if total > done and sys.stderr.isatty():
            say(f"{done:,} of {total:,} relations")

    return tell


def _counts(found: Imported) -> Rows:
    row = (found.new, found.known, found.superseded, found.contradicts, found.entities)
    columns = ("new>", "known>", "superseded>", "contradicting>", "entities described>")
    return Rows(*columns, rows=[tuple(map(str, row))])
