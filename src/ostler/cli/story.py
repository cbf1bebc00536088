"""The demonstration as it is watched: one line for every call, and a word on everything that is done to the session."""

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ostler.app.demo.play import GOAL, Asked, Beat, Begun, Prepared, Proved
from ostler.app.demo.report import Killed, what
from ostler.app.service import Happening
from ostler.cli.live import Live, happening
from ostler.cli.words import CHARS_MAX, duration, short
from ostler.domain.session.events import (
    AgentCompleted,
    AgentStarted,
    ApprovalGranted,
    ApprovalRequested,
    ConstraintFailed,
    ModelCompleted,
    ModelRequested,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.event import Record

DIGEST_CHARS = 16


class Story:
    """Tells the beats of the demonstration on a console. It remembers only what later lines refer to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console, "")
        self._chapters = 0
        self._started_us: int | None = None
        self._asked: dict[str, tuple[str, int]] = {}

    def tell(self, beat: Beat) -> None:
        match beat:
            case Prepared():
                self._open(beat)
            case Begun(pid, is_successor):
                self.chapter("Another worker goes on" if is_successor else "A worker runs the agent", f"process {pid}")
            case Record():
                self._happened(happening(beat))
            case Killed():
                self._killed(beat)
            case Asked():
                self._asked_for(beat)
            case Proved():
                self._proved(beat)

    def chapter(self, title: str, detail: str = "") -> None:
        """Begin the next part."""
        self._chapters += 1
        head = Text.assemble((f"{self._chapters}  {title}", "bold"), (f"  {detail}" if detail else "", "dim"))
        self._console.print()
        self._console.print(Rule(head, align="left", style="dim"))

    def pairs(self, rows: list[tuple[str, RenderableType]]) -> None:
        """Names and what there is to say of each."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(name, value)
        self._console.print(Padding(grid, (0, 0, 0, 1)))

    def _open(self, beat: Prepared) -> None:
        self.chapter("A small project with failing tests")
        self.pairs(
            [
                ("agent", "coder, driven by a built-in strategy: deterministic code in the place of a model"),
                ("goal", GOAL),
                ("project", f"{beat.stage.workspace}: a copy of Rota, one commit in a new git repository"),
                ("sandbox", f"bubblewrap; it was just attacked, and held: {', '.join(beat.held)}"),
                ("store", beat.stage.store),
                ("session", beat.session),
            ]
        )

    def _happened(self, told: Happening) -> None:
        """One event. Intents are shown with their outcome, in one line."""
        at_us, event = told.at_us, told.event
        if self._started_us is None:
            self._started_us = at_us
        moment = f"{(at_us - self._started_us) / 1e6:6.2f}"
        match event:
            case AgentStarted() | ModelRequested():
                pass
            case ModelCompleted():
                if event.calls:
                    self._line(moment, Text("◂", "cyan"), Text(short(event.text, CHARS_MAX), "italic"))
            case ToolRequested():
                self._asked[event.call] = what(event.tool, event.arguments), at_us
            case ToolCompleted():
                about, since_us = self._asked[event.call]
                took = duration(at_us - since_us)
                if event.ok:
                    self._call(moment, "✓", "green", event.call, about, _gist(event), took)
                else:
                    self._call(moment, "?", "bold yellow", event.call, about, Text(f"{event.kind}", "bold yellow"))
                    self._remark(event.output, "yellow")
            case ConstraintFailed():
                about = Text(f"refused by {event.rule}", "bold red")
                self._call(moment, "⊘", "bold red", event.call, self._wanted(event), about)
                self._remark(event.reason)
            case ApprovalRequested():
                about = Text("waits for an approval", "bold yellow")
                self._call(moment, "⏸", "bold yellow", event.call, what(event.tool, event.arguments), about)
            case ApprovalGranted():
                by = Text(f"by {event.by}: {event.reason}", "green")
                self._call(moment, "✓", "green", event.call, "approved", by)
            case AgentCompleted():
                self._line(moment, Text("●", "bold green"), Text(event.answer, "bold"))
            case _:
                line = self._live.line(event, at_us)
                self._line(moment, Text(line.symbol, line.style), Text(f"{line.what} {line.detail}", line.style))
