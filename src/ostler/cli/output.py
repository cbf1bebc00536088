"""How data leaves: as a table for people, or as JSON, JSON lines or YAML for machines. Always on standard output."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
import msgspec

from ostler.cli.trouble import JSON_ERRORS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

Format = Literal["table", "json", "jsonl", "yaml"]
F = TypeVar("F", bound=Callable[..., Any])

PIPE_WIDTH = 200
"""Columns of a table that goes to a file or another program."""


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
        _write(encode(value, output))


def emit_lines(values: Iterable[Any], output: Format = "jsonl") -> None:
    """Write values one after another as they come, each a line of JSON or a document of YAML."""
    for value in values:
        _write(("---\n" if output == "yaml" else "") + encode(value, "yaml" if output == "yaml" else "jsonl"))


def encode(value: Any, output: Format) -> str:
    """`value` as text in a format for machines, without a line break at its end."""
    if output == "yaml":
        import yaml

        plain = msgspec.to_builtins(value)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120).rstrip("\n")
    text = msgspec.json.encode(value)
    return (msgspec.json.format(text, indent=2) if output == "json" else text).decode()


def _write(text: str) -> None:
    click.echo(text)


def say(text: str) -> None:
    """Tell the person something about the data: on standard error."""
    click.echo(text, err=True)


def console(*, err: bool = False) -> "Console":
    """A console as wide as the terminal; nothing is wrapped to 80 columns on its way into a pipe."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or PIPE_WIDTH)
    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False)


def table(*columns: str, rows: Sequence[Sequence[str]]) -> "Table":
    """A table for people.

    A column named `name>` is aligned to the right; `name…` is cut where space ends and `name~` wrapped. All others are
    always whole.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        # A cell that is to be cut says so itself: columns that do not wrap are never made narrower.
        justify: Literal["left", "right"] = "right" if column.endswith(">") else "left"
        header = Text(column.rstrip(">…~"), no_wrap=True, overflow="ellipsis")
        made.add_column(header, justify=justify, no_wrap=not column.endswith(("…", "~")), overflow="fold")
    for row in rows:
        made.add_row(
            *(
                Text(cell, no_wrap=True, overflow="ellipsis") if column.endswith("…") else Text(cell)
                for column, cell in zip(columns, row, strict=True)
            )
        )
    return made
