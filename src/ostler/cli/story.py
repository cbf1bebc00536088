"""The demonstration as it is watched: one line for every call, and a word on everything that is done to the session."""

import msgspec
from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ostler.app.demo.play import GOAL, MODEL, Asked, Beat, Begun, Prepared, Proved
from ostler.app.demo.report import Killed, read_tests, what
from ostler.app.session import Happening
from ostler.cli.live import Live, happening
from ostler.cli.words import count, duration, short
from ostler.domain.session.events import (
    AgentCompleted,
    AgentStarted,
    ApprovalGranted,
    ApprovalRequested,
    CompensationRequested,
    ConstraintFailed,
    EpisodeRequested,
    ModelCompleted,
    ModelRequested,
    RecallRequested,
    ToolCompleted,
    ToolRequested,
)
from ostler.kernel.event import Record

DIGEST_CHARS = 16
INDENT = 12
"""Where the text of a line begins."""


class Story:
    """Tells the beats of the demonstration on a console. It remembers only what later lines refer to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console, "")
        self._chapters = 0
        self._started_us: int | None = None
        self._asked: dict[str, str] = {}
        self._begun: dict[str, int] = {}

    def tell(self, beat: Beat) -> None:
        match beat:
            case Prepared():
                self._prepared(beat)
            case Begun(pid, is_successor):
                self.chapter("Another worker goes on" if is_successor else "A worker runs the agent", f"process {pid}")
            case Record():
                self._happened(happening(beat))
            case Killed():
                self._killed(beat)
            case Asked():
                self._asks(beat)
            case Proved():
                self._proved(beat)

    def chapter(self, title: str, detail: str = "") -> None:
        """Begin the next part."""
        self._chapters += 1
        head = Text.assemble((f"{self._chapters}  {title}", "bold"), (f"  {detail}" if detail else "", "dim"))
        self._console.print()
        self._console.print(Rule(head, align="left", style="dim"))

    def _prepared(self, beat: Prepared) -> None:
        self._console.print("\nOne gate for everything an agent does, one log of what came of it.", style="bold")
        self._console.print("Everything in it is real but the model, which is played by code.", style="dim")
        self.chapter("A small project, with a fault in it")
        self._console.print(
            pairs(
                ("agent", f"coder, driven by {MODEL}: no key, no network"),
                ("goal", GOAL),
                ("project", f"{beat.stage.workspace}, a copy of Rota in a git repository of its own"),
                ("sandbox", f"bubblewrap, attacked a moment ago; it held: {', '.join(beat.held)}"),
                ("store", beat.stage.store),
                ("session", beat.session),
            )
        )

    def _happened(self, told: Happening) -> None:
        """One event. An intent is shown with its outcome, in one line."""
        if self._started_us is None:
            self._started_us = told.at_us
        moment, event = f"{(told.at_us - self._started_us) / 1e6:.2f}", told.event
        match event:
            case AgentStarted() | ModelRequested():
                pass
            case ModelCompleted():
                self._asked |= {call.id: what(call.name, msgspec.json.decode(call.arguments)) for call in event.calls}
                if event.calls:
                    self._line(moment, Text("◂", "cyan"), Text(short(event.text), "italic"))
            case RecallRequested() | EpisodeRequested() | CompensationRequested():
                asked = event.asked
                self._asked[asked.id] = what(asked.name, msgspec.json.decode(asked.arguments))
                line = self._live.line(event, told.at_us)
                self._line(moment, Text(line.symbol, line.style), Text(f"{line.what}: {line.detail}", line.style))
            case ToolRequested():
                self._begun[event.call] = told.at_us
            case AgentCompleted():
                self._line(moment, Text("●", "bold green"), Text(event.answer, "green"))
            case ToolCompleted() if event.ok:
                took = duration(told.at_us - self._begun[event.call])
                self._call(moment, "✓", "green", event.call, Text.assemble(_gist(event), (f"  {took:>6}", "dim")))
            case ToolCompleted():
                self._call(moment, "?", "bold yellow", event.call, f"outcome {event.kind}")
            case ConstraintFailed():
                self._call(moment, "⊘", "bold red", event.call, f"refused: {event.rule}")
            case ApprovalRequested():
                self._call(moment, "‖", "bold yellow", event.call, "waits for a person")
            case ApprovalGranted():
                self._call(moment, "✓", "bold green", event.call, f"approved by {event.by}")
            case _:
                line = self._live.line(event, told.at_us)
                self._line(moment, Text(line.symbol, line.style), Text(f"{line.what} {line.detail}", line.style))

    def _killed(self, beat: Killed) -> None:
        self._call("", "→", "blue", beat.call, "under way")
        self.chapter("kill -9", f"process {beat.pid}")
        self._panel(
            f"The worker is gone without a word, in the middle of call {beat.call}: the log has its intent and no "
            f"outcome. It had really begun: the demo made the tests count their own runs, and hold run {beat.runs} for "
            f"this signal. The {beat.processes} processes of its sandbox died with it. All that is left is the log.",
            "red",
        )

    def _asks(self, beat: Asked) -> None:
        diff = Text("\n".join(_only_changes(beat.diff)))
        diff.highlight_regex(r"(?m)^-.*$", "red")
        diff.highlight_regex(r"(?m)^\+.*$", "green")
        diff.highlight_regex(r"(?m)^@@.*$", "cyan")
        self._remark(f"rule {beat.rule}: {beat.reason}")
        seen = Text(f"\n\nNothing is committed yet: git has {count(beat.commits, 'commit')}. ")
        self._panel(Text.assemble(diff, seen, "The demo is the person here, and approves exactly this call."), "yellow")

    def _proved(self, beat: Proved) -> None:
        self.chapter("Replayed offline, and verified")
        replay, events = beat.replay, sum(log.events for log in beat.logs)
        is_same, are_whole = replay.digest == replay.digest_in_store, all(log.is_whole for log in beat.logs)
        self._console.print(
            pairs(
                (
                    "replay",
                    f"without network, workspace or tools: {replay.decisions} decisions made again",
                ),
                ("state", replay.digest + ("" if is_same else f", not {replay.digest_in_store}")),
                ("", mark(is_same, "the same, byte for byte, as the state in the store")),
                (
                    "logs",
                    f"{len(beat.logs)} of the session and its workers: {events} events, chained by hashes",
                ),
                ("", mark(are_whole, "every chain is whole")),
            )
        )

    def _line(self, moment: str, symbol: Text, text: Text, right: Text | None = None) -> None:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=7, justify="right", style="dim", no_wrap=True)
        grid.add_column(width=2, no_wrap=True)
        grid.add_column(ratio=1, overflow="fold")
        grid.add_column(justify="right", no_wrap=True)
        grid.add_row(moment, symbol, text, right or "")
        self._console.print(grid)

    def _call(self, moment: str, symbol: str, style: str, call: str, right: str | Text) -> None:
        if isinstance(right, str):
            right = Text(right, style)
        text = Text.assemble((f"{call:<4} ", "dim"), self._asked[call], no_wrap=True, overflow="ellipsis")
        self._line(moment, Text(f" {symbol}", style), text, right)

    def _remark(self, text: str) -> None:
        self._console.print(Padding(Text(text, "dim"), (0, 0, 0, INDENT + 5)))

    def _panel(self, text: RenderableType, style: str) -> None:
        panel = Panel(text, box=box.ROUNDED, border_style=style, padding=(0, 1))
        self._console.print(Padding(panel, (0, 0, 0, INDENT - 4)))


def pairs(*rows: tuple[str, RenderableType]) -> RenderableType:
    """Names, and what there is to say of each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return Padding(grid, (0, 0, 0, 2))


def mark(holds: bool, text: str) -> Text:
    """Whether something is as it should be."""
    return Text(f"✓ {text}", "green") if holds else Text(f"✗ not {text}", "bold red")


def _gist(event: ToolCompleted) -> Text:
    """What a call brought, in two or three words."""
    if event.blob is not None:
        return Text(f"{event.size:,} bytes")
    answer = msgspec.json.decode(event.output)
    match answer:
        case {"exit": code, "output": output}:
            tests = read_tests(output)
            if tests is not None:
                return Text(str(tests), "bold green" if tests.passed else "red")
            return Text(f"exit {code}")
        case {"entries": found}:
            return Text(count(len(found), "entry"))
        case {"matches": found}:
            return Text(f"{len(found)} found")
        case {"lines": lines}:
            return Text(count(lines, "line"))
        case {"line": line}:
            return Text(f"line {line}")
        case _:
            return Text("done")


def _only_changes(diff: str) -> list[str]:
    """A diff without what git says of its own about the files."""
    return [line for line in diff.splitlines() if not line.startswith(("diff ", "index ", "--- ", "+++ "))]
