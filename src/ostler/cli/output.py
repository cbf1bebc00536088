"""How data leaves: as a table for people, or as JSON, JSON lines or YAML for machines. Always on standard output."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

import click
import msgspec

from ostler.cli.trouble import JSON_ERRORS
from ostler.cli.words import whole

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

Format = Literal["table", "json", "jsonl", "yaml"]
F = TypeVar("F", bound=Callable[..., Any])

PIPE_WIDTH = 200
"""Columns of a table that goes to a file or another program."""
FLEXIBLE_MIN = 16
"""Columns below which a text that may be cut or wrapped says nothing any more."""
GAP = 3
"""Columns between two of a table."""


def output_options(command: F) -> F:
    """Adds `-o/--output` and `--json` to a command, which gets the chosen format as `output`."""
    short = click.option(
        "--json", is_flag=True, is_eager=True, expose_value=False, callback=_json, help="Short for --output json."
    )
    full = click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "jsonl", "yaml"]),
        default="table",
        show_default=True,
        is_eager=True,
        callback=_chosen,
        help="How data is written.",
    )
    return full(short(command))


def _json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[JSON_ERRORS] = True
        ctx.meta[_FORMAT] = ctx.params["output"] = "json"


def _chosen(ctx: click.Context, _: click.Parameter, value: Format) -> Format:
    chosen: Format = ctx.meta.get(_FORMAT, value)
    ctx.meta[JSON_ERRORS] = chosen != "table"
    return chosen


_FORMAT = "ostler.format"


def emit(value: Any, output: Format, table: Callable[[], "RenderableType"]) -> None:
    """Write one value; a list is one item a line as JSON lines. `table` is made only for people."""
    if output == "table":
        console().print(table())
    elif output == "jsonl" and isinstance(value, Sequence):
        emit_lines(value)
    else:
        put(value, output)


def emit_lines(values: Iterable[Any], output: Format = "jsonl", file: TextIO | None = None) -> None:
    """Write values one after another as they come, each a line of JSON or a document of YAML."""
    for value in values:
        if output == "yaml":
            click.echo("---", file=file)
        put(value, "yaml" if output == "yaml" else "jsonl", file)


def put(value: Any, output: Format, file: TextIO | None = None) -> None:
    """Write one value for machines: in UTF-8, wherever it goes."""
    click.echo(encode(value, output), file=file)


def encode(value: Any, output: Format) -> bytes:
    """`value` in a format for machines, without a line break at its end."""
    if output == "yaml":
        import yaml

        plain = msgspec.to_builtins(value)
        text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
        return text.rstrip("\n").encode()
    data = msgspec.json.encode(value)
    return msgspec.json.format(data, indent=2) if output == "json" else data


def printing_aside() -> redirect_stdout[TextIO]:
    """A context in which code of others runs: what it prints does not get among the data, but to standard error."""
    return redirect_stdout(sys.stderr)


def say(text: str) -> None:
    """Tell the person something about the data: on standard error. What could steer a terminal is an escape."""
    click.echo(whole(text), err=True)


def console(*, err: bool = False) -> "Console":
    """A console as wide as the terminal; nothing is wrapped to 80 columns on its way into a pipe."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rather than an exit in the name of the library

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or PIPE_WIDTH)
    return Terminal(file=stream, width=width, highlight=False, emoji=False, markup=False)


class Rows:
    """A table for people, or, where the terminal is too narrow for it, one block of lines for each row. What could
    steer a terminal is written as an escape.

    A column named `name>` is aligned to the right; `name…` is cut where space ends and `name~` wrapped. All others are
    always whole. Where that is not enough, columns named `name?` are left out, the last one first.
    """

    def __init__(self, *columns: str, rows: Sequence[Sequence[str]]) -> None:
        self._columns = columns
        self._rows = [[whole(cell) for cell in row] for row in rows]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        names = [column.rstrip(_MARKS) for column in self._columns]
        least = [
            self._least(column, [names[number], *(row[number] for row in self._rows)])
            for number, column in enumerate(self._columns)
        ]
        shown = list(range(len(least)))
        spare = [number for number in shown if "?" in self._columns[number]]
        while _width(least, shown) > options.max_width and spare:
            shown.remove(spare.pop())
        if _width(least, shown) <= options.max_width:
            yield self._table(shown, least)
        else:
            yield blocks([list(zip(names, row, strict=True)) for row in self._rows])

    @staticmethod
    def _least(column: str, cells: Sequence[str]) -> int:
        """How narrow this column may be."""
        from rich.cells import cell_len

        longest = max(cell_len(cell) for cell in cells)
        return min(longest, FLEXIBLE_MIN) if column.endswith(("…", "~")) else longest

    def _table(self, shown: Sequence[int], least: Sequence[int]) -> "Table":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        columns = [self._columns[number].replace("?", "") for number in shown]
        for column, width in zip(columns, (least[number] for number in shown), strict=True):
            # A cell that is to be cut says so itself: columns that do not wrap are never made narrower.
            made.add_column(
                Text(column.rstrip(_MARKS), no_wrap=True, overflow="ellipsis"),
                justify="right" if column.endswith(">") else "left",
                no_wrap=not column.endswith(("…", "~")),
                overflow="fold",
                min_width=width,
            )
        for row in self._rows:
            made.add_row(
                *(
                    Text(cell, no_wrap=True, overflow="ellipsis") if column.endswith("…") else Text(cell)
                    for column, cell in zip(columns, (row[number] for number in shown), strict=True)
                )
            )
        return made


def _width(least: Sequence[int], shown: Sequence[int]) -> int:
    return sum(least[number] for number in shown) + GAP * (len(shown) - 1)


def blocks(records: Sequence[Sequence[tuple[str, str]]]) -> "RenderableType":
    """Records as (name, value) lines, each a block of its own. Values are whole; empty ones are left out."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for record in records:
        lines = Table.grid(padding=(0, 2))
        lines.add_column(style="bold", no_wrap=True)
        lines.add_column(overflow="fold")
        for name, value in record:
            if value:
                lines.add_row(Text(name), Text(whole(value)))
        parts += [lines, ""]
    return Group(*parts[:-1])


_MARKS = ">…~?"
