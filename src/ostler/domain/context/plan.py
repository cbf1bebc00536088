"""What to leave out of the next request, and how much of it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from ostler.domain.agent import ContextStep
from ostler.domain.context.estimate import corrected, estimated_input_tokens
from ostler.domain.context.view import asked_calls, compacted, reference
from ostler.domain.glob import matches_any
from ostler.domain.model import AssistantMessage, Message, ToolMessage, UserMessage
from ostler.domain.session.events import ContextCompacted
from ostler.domain.session.state import State
from ostler.domain.tokens import Counts, counts_of_message, minus, plus

BULKY_CHARS = 1_000
"""A result of a tool that is longer may become one line."""
SUMMARY_TOKENS = 2_000
"""How long a summary may be; in a small window, an eighth of it."""
SUMMARY_PROMPT = """\
Your context is nearly full. Write a summary that will take the place of the earlier turns, for yourself to go on from.
Keep whatever is still needed to reach the goal: what people asked for since, what was found out (exact names, paths,
numbers, ids), what was done and must not be done twice, what was decided and why, and what remains to be done.
Do not call any tool. Answer with the summary and nothing else."""


class Crowd(NamedTuple):
    """A request that is too large: estimated at `tokens` of a `window`, of which `target` tokens are wanted."""

    tokens: int
    window: int
    target: int

    @property
    def because(self) -> str:
        return f"the next request is estimated at {self.tokens} tokens, and the window holds {self.window}"


class Turn(NamedTuple):
    """The messages of one turn, from `start` up to `end`: a reply and all that followed, up to the next reply."""

    start: int
    end: int


def crowd(state: State, window: int) -> Crowd | None:
    """Whether room has to be made. After a compaction that did not reach its target, not before there is more again."""
    settings, expected = state.agent.context, estimated_input_tokens(state)
    above, target = int(window * settings.above), int(window * settings.down_to)
    if state.context.reached > target:
        above = max(above, min(state.context.reached + window // 10, (above + window) // 2))
    if expected <= above and not state.context.draft:
        return None
    return Crowd(expected, window, target)


def turns(messages: Sequence[Message], leading: int) -> Iterator[Turn]:
    """The turns after the `leading` messages; what people said before the first reply is one of its own."""
    start = leading
    for place in range(leading, len(messages)):
        if isinstance(messages[place], AssistantMessage) and place > start:
            yield Turn(start, place)
            start = place
    if start < len(messages):
        yield Turn(start, len(messages))


def references(state: State, found: Crowd) -> ContextCompacted | None:
    """The bulky results of tools become one line each, from the oldest, until there is room; the last turn is kept."""
    calls, counts = [], _counts(state)
    asked = asked_calls(state.transcript)
    for turn in _earlier(state):
        for message in state.transcript[turn.start : turn.end]:
            if corrected(state, counts) <= found.target:
                break
            if isinstance(message, ToolMessage) and len(message.text) > BULKY_CHARS and not _is_pinned(state, message):
                calls.append(message.call)
                line = reference(state, message, asked[message.call])
                counts = plus(minus(counts, counts_of_message(message)), counts_of_message(line))
    if not calls:
        return None
    return _measured(state, _compacted("references", found, calls=tuple(calls)))


def trim(state: State, found: Crowd) -> ContextCompacted | None:
    """The oldest turns go, until there is room."""
    gone = _oldest(state, found.target)
    if not gone:
        return None
    return _measured(state, _compacted("trim", found, spans=_spans(gone), turns=len(gone)))


def summary(state: State, found: Crowd, text: str) -> ContextCompacted | None:
    """This text takes the place of the turns that it is about."""
    covered = turns(state.transcript[: state.context.covers], state.context.leading)
    gone = [turn for turn in covered if not _has_pinned(state, turn)]
    return _measured(state, _compacted("summarise", found, spans=_spans(gone), turns=len(gone), summary=text))


def to_be_summarised(state: State, found: Crowd) -> int:
    """How many of the first messages a summary is to be about; 0 if there is nothing to gain, or no room to ask."""
    gone = _oldest(state, found.target - allowance(found.window), at_least=1)
    if not gone:
        return 0
    fits = summary_tokens(state, gone[-1].end) + allowance(found.window) <= found.window
    return gone[-1].end if fits else 0


def summary_tokens(state: State, covers: int) -> int:
    """How many tokens a request for a summary of so many messages will hold."""
    counts = plus(state.context.fixed, counts_of_message(UserMessage(SUMMARY_PROMPT)))
    for message in state.transcript[:covers]:
        counts = plus(counts, counts_of_message(message))
    return corrected(state, counts)


def allowance(window: int) -> int:
    """How many tokens a summary may have."""
    return min(SUMMARY_TOKENS, window // 8)


def _oldest(state: State, target: int, *, at_least: int = 0) -> list[Turn]:
    """The oldest turns without which there is room, or all that may go: not the last, and none with a pinned call."""
    gone: list[Turn] = []
    counts = _counts(state)
    for turn in _earlier(state):
        if len(gone) >= at_least and corrected(state, counts) <= target:
            break
        if _has_pinned(state, turn):
            continue
        gone.append(turn)
        for message in state.transcript[turn.start : turn.end]:
            counts = minus(counts, counts_of_message(message))
    return gone


def _earlier(state: State) -> list[Turn]:
    """All turns but the last, which the model has not answered yet."""
    return list(turns(state.transcript, state.context.leading))[:-1]


def _has_pinned(state: State, turn: Turn) -> bool:
    return any(_is_pinned(state, message) for message in state.transcript[turn.start : turn.end])


def _is_pinned(state: State, message: Message) -> bool:
    """Whether it is of a tool whose results always stay."""
    pinned = state.agent.context.pinned
    match message:
        case ToolMessage():
            return matches_any(pinned, message.name)
        case AssistantMessage():
            return any(matches_any(pinned, call.name) for call in message.calls)
        case UserMessage():
            return False


def _counts(state: State) -> Counts:
    counts = plus(state.context.fixed, state.context.counts)
    for message in state.inbox:
        counts = plus(counts, counts_of_message(message))
    return counts


def _spans(gone: list[Turn]) -> tuple[tuple[int, int], ...]:
    spans: list[tuple[int, int]] = []
    for start, end in gone:
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple(spans)


def _compacted(
    by: ContextStep,
    found: Crowd,
    *,
    calls: tuple[str, ...] = (),
    spans: tuple[tuple[int, int], ...] = (),
    turns: int = 0,
    summary: str = "",
) -> ContextCompacted:
    return ContextCompacted(
        by,
        found.because,
        tokens_before=found.tokens,
        tokens_after=found.tokens,
        window_tokens=found.window,
        calls=calls,
        spans=spans,
        turns=turns,
        summary=summary,
    )


def _measured(state: State, event: ContextCompacted) -> ContextCompacted | None:
    """The event with what is left after it; None if that is no less."""
    before = estimated_input_tokens(state)
    after = estimated_input_tokens(compacted(state, event))
    return msgspec.structs.replace(event, tokens_before=before, tokens_after=after) if after < before else None
