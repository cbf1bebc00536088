"""How large the next request is, and how much the model takes."""

from ostler.domain.session.state import State
from ostler.domain.tokens import Counts, counts_of_message, family_of, plus, tokens

BYTES_PER_TOKEN = 4
COUNTS_TOKENS = 4
"""Since this version of the gate, tokens are counted by what texts are made of, and windows are kept to."""


def estimated_input_tokens(state: State) -> int:
    """How many tokens the next request will hold: an estimate, corrected by what was reported of the last request."""
    if state.gate < COUNTS_TOKENS:
        return _by_bytes(state)
    counts = state.context.counts
    for message in state.inbox:
        counts = plus(counts, counts_of_message(message))
    return corrected(state, plus(state.context.fixed, counts))


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
    own = state.agent.context.window_tokens
    return min([one for one in (window, own) if one is not None], default=None)


def _by_bytes(state: State) -> int:
    """At four bytes a token, as it was once estimated."""
    tools = sum(
        len(tool.name) + len(tool.description) + 4 * len(str(tool.parameters)) // 3 for tool in state.agent.tools
    )
    said = state.transcript_bytes + sum(len(message.text) for message in state.inbox)
    return -(-(said + len(state.agent.instructions) + tools) // BYTES_PER_TOKEN)
