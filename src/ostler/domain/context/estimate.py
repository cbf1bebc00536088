"""How large the next request is, and how much the model takes."""

from ostler.domain.session.state import State
from ostler.domain.tokens import Counts, counts_of_message, counts_of_messages, family_of, plus, tokens

BYTES_PER_TOKEN = 4
"""Of text whose tokens nobody has counted."""
MIN_REPLY_TOKENS = 16
"""What leaves less than this for the reply leaves no room for one."""
COUNTS_TOKENS = 4
"""Since this version of the gate, tokens are counted by what texts are made of, and windows are kept to."""


def estimated_input_tokens(state: State) -> int:
    """How many tokens the next request will hold: an estimate, corrected by what was reported of the last request."""
    if state.gate < COUNTS_TOKENS:
        return _by_bytes(state)
    counts = state.context.counts if state.context.is_counted else counts_of_messages(state.transcript)
    for message in state.inbox:
        counts = plus(counts, counts_of_message(message))
    return corrected(state, plus(state.context.fixed, counts))


def is_to_be_counted(state: State) -> bool:
    """Whether the transcript is counted as it grows: where a bound is kept to. Elsewhere nobody asks but rarely."""
    limits, is_bounded = state.agent.limits, state.is_budgeted or len(state.candidates) > 1
    is_bounded = is_bounded or limits.tokens is not None or limits.cost_microusd is not None
    return state.gate >= COUNTS_TOKENS and (is_bounded or window_of(state) is not None)


def corrected(state: State, counts: Counts) -> int:
    """So many tokens for the model that answers, as its provider counts them."""
    context, family = state.context, family_of(state.model.name)
    estimated = tokens(counts, family)
    if context.family != family or not context.estimated:
        return estimated
    return -(-estimated * context.reported // context.estimated)


def window_of(state: State) -> int | None:
    """How much a request to the model that answers and its reply may hold together; None if nobody says."""
    return _bounded(state, state.model.window_tokens)


def largest_window_of(state: State) -> int | None:
    """That of the model that takes most, where one of several is chosen for the next request."""
    if not state.is_routed:
        return window_of(state)
    windows = [card.model.window_tokens for card in state.candidates]
    known = [window for window in windows if window is not None]
    return _bounded(state, max(known) if len(known) == len(windows) else None)


def _bounded(state: State, window: int | None) -> int | None:
    if state.gate < COUNTS_TOKENS:
        return None
    for bound in (state.agent.context.window_tokens, state.context.too_long):
        if bound and (window is None or bound < window):
            window = bound
    return window


def _by_bytes(state: State) -> int:
    """At four bytes a token, as it was once estimated."""
    tools = sum(
        len(tool.name) + len(tool.description) + 4 * len(str(tool.parameters)) // 3 for tool in state.agent.tools
    )
    said = state.transcript_bytes + sum(len(message.text) for message in state.inbox)
    return -(-(said + len(state.agent.instructions) + tools) // BYTES_PER_TOKEN)
