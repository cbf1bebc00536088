"""What models say while they say it, among the lines of a session that is watched."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from ostler.app.session import Session
from ostler.cli.output import Format, emit_lines
from ostler.domain.live import Piece
from ostler.domain.session.events import ModelCompleted, ModelFailed, SessionEvent

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])
Hear = Callable[[Piece], None]


def text_option(command: F) -> F:
    """Adds `--text/--no-text` to a command, which gets it as `text`: None is what the output decides."""
    return click.option(
        "--text/--no-text", default=None, help="Show what the model says while it says it; by default, on a terminal."
    )(command)


def is_shown(text: bool | None, output: Format, to: TextIO) -> bool:
    """Whether text is to be shown as it comes, by what was asked for and by where it goes."""
    return text if text is not None else output == "table" and to.isatty()


class Speech:
    """Writes pieces of text, and leaves the line clean for what comes next."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._place: tuple[str, int] = ("", 0)
        self._end = 0
        self._over = ""
        self._is_open = False

    def hear(self, piece: Piece) -> None:
        """Write a piece. What comes after the reply is in the log is not written any more."""
        if piece.call == self._over:
            return
        place = piece.call, piece.attempt
        if place != self._place:
            self.finish()
            self._place, self._end = place, 0
            if piece.attempt > 1:
                self._write(f"[attempt {piece.attempt}] ")
        if piece.withheld:
            self._write(f"[not shown before it is in the log: {piece.withheld}]")
        if piece.offset > self._end:
            self._write(" […] ")
        self._write(piece.text)
        self._end = piece.offset + len(piece.text)

    def event(self, event: SessionEvent) -> None:
        """An event is about to be shown."""
        self.finish()
        if isinstance(event, ModelCompleted | ModelFailed):
            self._over = event.call

    def finish(self) -> None:
        """End the line that text stands on."""
        if self._is_open:
            self._console.file.write("\n")
            self._is_open = False

    def _write(self, text: str) -> None:
        if text:
            self._console.file.write(text)
            self._console.file.flush()
            self._is_open = not text.endswith("\n")


class TextLine(Piece, frozen=True, gc=False, omit_defaults=True, tag="live.text", tag_field="type"):
    """A piece among the JSON lines of events."""

    session: str = ""


def lines(session: str, file: TextIO | None = None) -> Hear:
    """Writes each piece as a line of JSON, whose type no event has."""
    return lambda piece: emit_lines(
        [TextLine(piece.call, piece.attempt, piece.offset, piece.text, piece.withheld, session)], file=file
    )


@asynccontextmanager
async def hearing(session: Session, hear: Hear | None) -> AsyncGenerator[None, None]:
    """Let `hear` have what the model of the session says meanwhile."""
    if hear is None:
        yield
        return

    async def listen() -> None:
        async with aclosing(session.live()) as pieces:
            async for piece in pieces:
                hear(piece)

    listening = asyncio.create_task(listen(), name="live text")
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
