"""Sessions as people watch them: one readable line for every event."""

from typing import Any, NamedTuple, assert_never

import msgspec
from rich.console import Console
from rich.text import Text

from ostler.app.session import Happening
from ostler.cli.words import CHARS_MAX, arguments, count, duration, short
from ostler.domain.fitness.events import FitnessLowered
from ostler.domain.hook import Ruling
from ostler.domain.model import Image
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentForked,
    AgentPaused,
    AgentResumed,
    AgentStarted,
    AnswerRefused,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalReturned,
    CallExamined,
    CallRetried,
    CancelRequested,
    CompensationRequested,
    ConstraintFailed,
    ContextCompacted,
    EpisodeRequested,
    FitnessCompared,
    InputReceived,
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    PolicyMoved,
    RecallRequested,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
    ToolResumed,
    ToolSuspended,
)
from ostler.domain.tool import ToolSpec
from ostler.kernel.event import Record

SAID_CHARS_MAX = 160
"""What is shown of a text that a model wrote beside its calls."""


def happening(record: Record) -> Happening:
    """A stored event as it is watched."""
    return Happening(record.seq, record.at_us, SESSION_CODEC.decode(record.data))


class Line(NamedTuple):
    """What is shown of one event: a symbol, what happened, and about what."""

    symbol: str
    style: str
    what: str
    detail: str = ""


class Live:
    """Shows the events of one session as they come. It remembers only what later lines refer to."""

    def __init__(self, console: Console, session: str, *, prefix: str = "", says_how: bool = False) -> None:
        """`prefix` begins every line, for several sessions on one console; `says_how` adds how a call is approved."""
        self._console = console
        self._session = session
        self._prefix = prefix
        self._says_how = says_how
        self._started_us: int | None = None
        self._tools: dict[str, str] = {}
        self._told: set[str] = set()
        self._begun: dict[str, int] = {}
        self._defaults: dict[str, dict[str, object]] = {}
        self._model = "the model"
        self._said = ""

    def show(self, happening: Happening, *, is_silent: bool = False) -> None:
        """Print the line of one event, as wide as the console; `is_silent` only remembers it."""
        text = self.text(happening)
        if is_silent:
            return
        self._console.print(text, no_wrap=True, overflow="ellipsis", crop=True)
        if self._says_how and isinstance(happening.event, ApprovalRequested):
            for verb in ("approve", "deny"):
                self._console.print(Text(f"{'':16}ostler {verb} {self._session}", style="dim"), no_wrap=True)

    def text(self, happening: Happening) -> Text:
        """The line of one event; events must come in order."""
        seq, at_us, event = happening.seq, happening.at_us, happening.event
        if self._started_us is None:
            self._started_us = at_us
        line = self.line(event, at_us)
        text = Text(self._prefix)
        text.append(f"{(at_us - self._started_us) / 1e6:8.2f}s {seq:>4} ", style="dim")
        text.append(f"{line.symbol} ", style=line.style)
        text.append(f"{line.what:<11} ", style=line.style)
        text.append(line.detail)
        text.rstrip()
        return text

    def line(self, event: SessionEvent, at_us: int) -> Line:
        """What to show of one event."""
        match event:
            case ModelRequested():
                self._begun[event.call] = at_us
                what = "" if event.purpose == "turn" else f", for a {event.purpose}"
                if event.choice is not None:
                    self._model = event.choice.model
                    what += f", of {self._model}: {short(event.choice.because)}"
                return Line("?", "dim", "ask model", f"turn {event.call}{what}")
            case ContextCompacted():
                return Line("▿", "yellow", "compacted", _compaction(event))
            case ModelCompleted():
                took = self._took(event.call, at_us)
                said = short(event.text, SAID_CHARS_MAX if event.calls or event.defect else CHARS_MAX)
                if event.defect:
                    said = f"{said} ✗ {short(event.defect)}" if said else short(event.defect)
                self._tools.update({call.id: call.name for call in event.calls})
                asked = ", ".join(call.name for call in event.calls)
                style = "yellow" if event.defect else "cyan"
                self._said = (event.defect or event.text) if event.answer is None else ""
                return Line("◂", style, "model", " → ".join(part for part in (said, asked) if part) + took)
            case ModelFailed():
                took = self._took(event.call, at_us)
                self._said = f"{event.code}: {event.message}"
                return Line("✗", "red", "model", f"{short(self._said)}{took}")
            case CallRetried(limit=str()):
                return Line("…", "yellow", "waiting", f"{event.call} {self._name(event.call)}: {short(event.because)}")
            case CallRetried():
                wait_us = (event.not_before_us or 0) - at_us
                when = f" in {duration(wait_us)}" if wait_us > 0 else ""
                who = self._name(event.call)
                if event.choice is not None:
                    self._model = event.choice.model
                    who += f" → {self._model}"
                detail = f"{event.call} {who}, attempt {event.attempt}{when}: {short(event.because)}"
                return Line("↻", "yellow", "retry", detail)
            case ToolRequested():
                self._begun[event.call], self._tools[event.call] = at_us, event.tool
                rule = f" [{event.rule}]" if event.rule else ""
                is_told = event.call in self._told
                given = {} if is_told else self._without_defaults(event.tool, event.arguments)
                return Line("→", "blue", "call", f"{event.call} {event.tool}{rule} {arguments(given)}")
            case ToolCompleted():
                symbol, style = ("✓", "green") if event.ok else ("✗", "red")
                outcome = _outcome(event) if event.ok else f"{event.kind}: {short(event.output)}"
                took = self._took(event.call, at_us)
                detail = f"{event.call} {self._name(event.call)}{took} {outcome}"
                return Line(symbol, style, "done" if event.ok else "failed", detail)
            case ToolSuspended():
                self._tools[event.asked.id] = event.asked.name
                return Line("…", "dim", "program", f"{event.call} calls {event.asked.name}")
            case ToolResumed():
                return Line("→", "dim", "program", f"{event.call} goes on")
            case ConstraintFailed():
                rule = f" [{event.rule}]" if event.rule else ""
                what = event.tool or "the model"
                return Line("⊘", "bold red", "refused", f"{event.call} {what}{rule}: {short(event.reason)}")
            case FitnessCompared() | FitnessLowered() | CompensationRequested():
                return self._fitness(event)
            case RecallRequested() | EpisodeRequested():
                return self._memory(event)
            case _:
                return self._people(event)

    def _fitness(self, event: FitnessCompared | FitnessLowered | CompensationRequested) -> Line:
        """What was measured around a call, and what undoes it."""
        match event:
            case FitnessCompared():
                found = ", ".join(f"{one.target} {one}" for one in event.fitness)
                if event.is_restored is None:
                    return Line("·", "dim", "fitness", f"after {event.call}: {found}")
                symbol, style = ("✓", "green") if event.is_restored else ("✗", "red")
                what = "restored" if event.is_restored else "not restored"
                return Line(symbol, style, what, f"after {event.call}: {found}")
            case FitnessLowered():
                detail = f"{event.call} {event.tool} lowered {event.after.target}: {event.before} → {event.after}"
                return Line("▽", "bold red", "fitness", detail)
            case CompensationRequested():
                self._tools[event.asked.id] = event.asked.name
                return Line("↶", "yellow", "undo", f"{event.of} by {event.asked.name}: {event.because}")

    def _memory(self, event: RecallRequested | EpisodeRequested) -> Line:
        """What the runtime recalls and remembers by itself."""
        self._tools[event.asked.id] = event.asked.name
        self._told.add(event.asked.id)
        given = msgspec.json.decode(event.asked.arguments, type=dict[str, Any])
        match event:
            case RecallRequested():
                return Line("⟲", "dim", "recall", f"what bears on: {short(given['query'])}")
            case EpisodeRequested():
                return Line("⟳", "dim", "episode", f"remembers how it ended: {short(given['text'])}")

    def _people(
        self,
        event: AgentStarted
        | CallExamined
        | PolicyMoved
        | ApprovalRequested
        | ApprovalGranted
        | ApprovalDenied
        | ApprovalReturned
        | ApprovalRejected
        | ApprovalExpired
        | InputReceived
        | AgentPaused
        | AgentResumed
        | AgentForked
        | CancelRequested
        | AnswerRefused
        | AgentCompleted
        | AgentFailed
        | AgentCancelled,
    ) -> Line:
        """The rarer events: what people decide, and the end."""
        match event:
            case AgentStarted():
                self._model = f"{event.model.provider}:{event.model.name}"
                self._defaults = {tool.name: _defaults(tool) for tool in event.agent.tools}
                return Line(
                    "▶", "bold", "started", f"{event.agent} on {event.model}: {short(event.goal)}{_shown(event.images)}"
                )
            case ApprovalRequested():
                because = f": {event.reason}" if event.reason else ""
                detail = f"{event.call} {event.tool} [{event.rule}{because}] {arguments(event.arguments)}"
                return Line("⏸", "bold yellow", "approval?", detail)
            case CallExamined():
                return Line("·", "dim", "examined", f"{event.call} {short(_found(event))}".rstrip())
            case PolicyMoved():
                policy = f"{event.policy.name}@{event.policy.version}"
                return Line("⚖", "bold", "policy", _by(policy, event.by, event.reason))
            case ApprovalGranted():
                what = "approved" if event.is_enough else "approves"
                return Line("✓", "green", what, _by(event.call, event.by, event.reason))
            case ApprovalReturned():
                return Line("?", "yellow", "asked back", _by(event.call, event.by, event.question))
            case ApprovalRejected():
                return Line("⊘", "dim", "no effect", _by(f"{event.decision} of {event.call}", event.by, event.reason))
            case ApprovalDenied():
                return Line("⊘", "red", "denied", _by(event.call, event.by, event.reason))
            case ApprovalExpired():
                return Line("⊘", "yellow", "expired", f"{event.call} was neither approved nor denied in time")
            case InputReceived():
                return Line("✉", "magenta", "input", f"{event.by}: {short(event.text)}{_shown(event.images)}")
            case AgentPaused():
                return Line("⏸", "yellow", "paused", _by("", event.by, event.reason))
            case AgentResumed():
                return Line("▶", "green", "resumed", _by("", event.by, ""))
            case AgentForked():
                return Line("⑂", "bold", "forked", _forked(event))
            case CancelRequested():
                return Line("■", "yellow", "cancelling", _by("", event.by, event.reason))
            case AnswerRefused():
                return Line("⊘", "red", "answer refused", short(event.reason))
            case AgentCompleted():
                return Line("●", "bold green", "completed", self._unless_said(event.answer))
            case AgentFailed():
                message = self._unless_said(event.message)
                return Line("●", "bold red", "failed", event.reason + (f": {message}" if message else ""))
            case AgentCancelled():
                return Line("●", "bold yellow", "cancelled", f"{event.reason} by {event.by}")
            case _:
                assert_never(event)

    def _name(self, call: str) -> str:
        return self._tools.get(call, self._model)

    def _unless_said(self, text: str) -> str:
        """The text, if it is not that of the line before."""
        return "" if text == self._said else short(text)

    def _without_defaults(self, tool: str, given: dict[str, Any]) -> dict[str, Any]:
        defaults = self._defaults.get(tool, {})
        return {name: value for name, value in given.items() if name not in defaults or defaults[name] != value}

    def _took(self, call: str, at_us: int) -> str:
        begun = self._begun.pop(call, None)
        return "" if begun is None else f" ({duration(at_us - begun)})"


def _found(event: CallExamined) -> str:
    """What was found out about a call, as far as it is worth a line."""
    said = [event.refused or "", *event.warnings, *[_ruled(ruling) for ruling in event.hooks]]
    said += [f"{one.model}: {one.reason}" for one in event.routing.unavailable] if event.routing else []
    return "; ".join(filter(None, said))


def _defaults(tool: ToolSpec) -> dict[str, object]:
    """The arguments that need not be given, by what they are then."""
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    return {name: schema["default"] for name, schema in properties.items() if "default" in schema}


def _outcome(event: ToolCompleted) -> str:
    """What a tool said; an object as `name=value`, and a long text by its beginning and its size."""
    size = f" ({event.size:,} bytes)" if event.size is not None else ""
    if event.is_json and event.blob is None:
        value = msgspec.json.decode(event.output)
        if isinstance(value, dict) and isinstance(found := value.get("memories"), list):
            return f"{len(found)} found" if found else "nothing found"
        if isinstance(value, dict):
            return arguments(value)
    return short(event.output) + size


def _shown(images: tuple[Image, ...]) -> str:
    return f" [{count(len(images), 'image')}]" if images else ""


def _compaction(event: ContextCompacted) -> str:
    """What the model is not shown any more."""
    gone = {
        "references": f"{count(len(event.calls), 'result')} to one line each",
        "trim": f"{count(event.turns, 'turn')} left out",
        "summarise": f"a summary in place of {count(event.turns, 'turn')}",
    }
    before, after = f"{event.tokens_before:,}", f"{event.tokens_after:,}"
    return f"{gone[event.by]}: about {before} → {after} of {event.window_tokens:,} tokens"


def _forked(event: AgentForked) -> str:
    trial = f", to try {event.trial.provider}:{event.trial.name}" if event.trial is not None else ""
    return f"from {event.origin} at event {event.seq} by {event.by}{trial}"


def _by(call: str, by: str, reason: str) -> str:
    return f"{call} by {by}".strip() + (f": {short(reason)}" if reason else "")


def _ruled(ruling: Ruling) -> str:
    """What a hook said."""
    effect = type(ruling.answer).__name__.lower()
    reason = getattr(ruling.answer, "reason", "")
    return f"{ruling.hook}: {effect}" + (f", {reason}" if reason else "")
