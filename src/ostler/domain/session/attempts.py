"""What attempts of model calls may cost, and what is counted of those that failed."""

from typing import NamedTuple

import msgspec

from ostler.domain import context
from ostler.domain.context.estimate import BYTES_PER_TOKEN
from ostler.domain.model import Reply, Usage, cost_microusd
from ostler.domain.resilience.retry import UNBEGUN
from ostler.domain.session.choosing import with_model
from ostler.domain.session.commands import ReplyFailed
from ostler.domain.session.events import NOTHING_USED, CallRetried
from ostler.domain.session.state import OpenCall, State, as_asked
from ostler.domain.strategy.choice import Choice
from ostler.kernel.errors import (
    ConfigurationError,
    ContextTooLong,
    IncompleteReply,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderRejected,
    ProviderUnreachable,
    RateLimited,
)

COUNTS_FAILED = 3
"""Since this version of the gate, failed attempts say more of themselves, and are counted with what they used."""

UNSPENT = UNBEGUN | {
    kind.code
    for kind in (
        ProviderUnreachable,
        RateLimited,
        ProviderOverloaded,
        ProviderRejected,
        ContextTooLong,
        ConfigurationError,
    )
}
"""Nothing was spent on an attempt that failed so: the model never began to answer."""
ATTEMPTS, ATTEMPTS_FREE = 5, 10
"""How many there are of a call where `Limits.attempts` does not say; the second where a failure costs nothing …"""
FREE = frozenset({ProviderUnreachable.code, ProviderOverloaded.code, RateLimited.code})
"""… because the provider is down or busy."""
_CUT = frozenset({IncompleteReply.code, ProviderGarbled.code})
"""The model had begun to answer: the question was charged, and of the reply as much as came at least."""


class Worst(NamedTuple):
    """The most that an attempt can use. `max_tokens` is set where limits leave less than the agent's settings allow."""

    max_tokens: int | None = None
    tokens: int = 0
    microusd: int = 0


class NoRoom(NamedTuple):
    """Limits leave no room for another attempt: the reason with which the session ends, and what it says."""

    reason: str
    text: str


def worst_case(state: State, covers: int = 0) -> Worst | NoRoom:
    """What to reserve for the next attempt; nothing where nobody counts. Request and reply fit into the window.

    It asks for a summary if it `covers` anything.
    """
    limits, window = state.agent.limits, context.window_of(state)
    max_tokens = wanted = state.agent.settings.max_tokens
    if covers and window is not None:
        max_tokens = min(max_tokens, context.allowance(window))
    if window is not None:
        expected = _request_tokens(state, covers)
        max_tokens = min(max_tokens, window - expected)
        if max_tokens < context.MIN_REPLY_TOKENS:
            return NoRoom("context_overflow", _overflow(state, expected, window))
    is_limited = limits.tokens is not None or limits.cost_microusd is not None
    if not is_limited and not (state.is_budgeted and state.gate >= COUNTS_FAILED):
        return Worst(None if max_tokens == wanted else max_tokens)
    expected = context.estimated_input_tokens(state)  # no summary is of more than the turn after it would be
    if limits.tokens is not None:
        max_tokens = min(max_tokens, limits.tokens - state.usage.total_tokens - expected)
        if max_tokens < context.MIN_REPLY_TOKENS:
            text = f"the budget of {limits.tokens} tokens leaves no room for a reply ({state.usage.total_tokens} used)"
            return NoRoom("token_limit", text)
    price = state.model.price
    if limits.cost_microusd is not None and price is not None:
        left = (limits.cost_microusd - state.cost_microusd) * 1_000_000 - expected * price.input_microusd
        if price.output_microusd:
            max_tokens = min(max_tokens, left // price.output_microusd)
        if left < 0 or max_tokens < context.MIN_REPLY_TOKENS:
            text = f"the budget of {limits.cost_microusd / 1e6:g} USD leaves no room for a reply"
            return NoRoom("cost_limit", f"{text} ({state.cost_microusd / 1e6:g} spent)")
    cost = 0 if price is None else expected * price.input_microusd + max_tokens * price.output_microusd
    return Worst(None if max_tokens == wanted else max_tokens, expected + max_tokens, -(-cost // 1_000_000))


def _request_tokens(state: State, covers: int) -> int:
    return context.summary_tokens(state, covers) if covers else context.estimated_input_tokens(state)


def _overflow(state: State, expected: int, window: int) -> str:
    return (
        f"the next request is estimated at {expected} tokens, and {state.model} takes {window} with its reply; what "
        "must stay (instructions, tools, goal, pinned turns, the last turn) leaves no room for one"
    )


def worst_again(state: State, call: OpenCall, used: Usage, choice: Choice | None = None) -> Worst | NoRoom:
    """What to reserve for an attempt after one that has used so much, by this choice; as before, if nothing changed."""
    if not used.total_tokens and choice is None:
        return Worst()
    after = counted(as_asked(state), used, cost_microusd(used, state.model.price))
    return worst_case(after if choice is None else with_model(after, choice.model), call.covers)


def spent(state: State, call: OpenCall, failed: ReplyFailed) -> Usage:
    """What a failed attempt is counted with: as reported, or as can be told from what came, or the worst of it."""
    if failed.usage is not None:
        return failed.usage
    if failed.code in UNSPENT or state.gate < COUNTS_FAILED or call.not_before_us:
        return NOTHING_USED
    if call.reserved_tokens and failed.code not in _CUT:
        return lost(state, call)
    came = -(-len(failed.partial.encode()) // BYTES_PER_TOKEN)
    return Usage(input_tokens=_request_tokens(as_asked(state), call.covers), output_tokens=came)


def used_by(state: State, call: OpenCall, reply: Reply) -> Usage:
    """What a reply is counted with: as reported, and if nothing is, with what was reserved for it."""
    if reply.usage.total_tokens or state.model.kind != "live":
        return reply.usage
    return lost(state, call)


def lost(state: State, call: OpenCall) -> Usage:
    """What an attempt of which nobody knows anything is counted with: all that was reserved, unless it only waited."""
    if state.gate < COUNTS_FAILED or not call.reserved_tokens or call.not_before_us:
        return NOTHING_USED
    output = call.max_tokens or state.agent.settings.max_tokens
    return Usage(input_tokens=call.reserved_tokens - output, output_tokens=output)


def attempts_max(state: State, code: str) -> int:
    """How many attempts of a model call are made where the last one failed so, the first one included."""
    limits = state.agent.limits
    usual = ATTEMPTS_FREE if code in FREE and state.gate >= COUNTS_FAILED else ATTEMPTS
    return limits.retries.attempts(code, usual if limits.attempts is None else limits.attempts)


def may_try_again(state: State, call: OpenCall, code: str) -> bool:
    """Whether a tool may be called once more. One that is `once` only if it was certainly not called before."""
    spec = state.agent.tool(call.tool)
    if spec is None or state.cancelling_by is not None:
        return False
    most = state.agent.limits.retries.attempts(code, spec.attempts)
    return code in UNBEGUN or (spec.effect != "once" and call.attempt < most)


def as_of_old(state: State, retried: CallRetried) -> CallRetried:
    """What was written of a failed attempt by the version of the gate that the session began with."""
    if state.gate >= COUNTS_FAILED:
        return retried
    return msgspec.structs.replace(retried, code="", status=None)


def counted(state: State, used: Usage, cost: int) -> State:
    """The state with this much more used."""
    before = state.usage
    total = Usage(
        before.input_tokens + used.input_tokens,
        before.output_tokens + used.output_tokens,
        before.cache_read_tokens + used.cache_read_tokens,
        before.cache_write_tokens + used.cache_write_tokens,
    )
    return msgspec.structs.replace(state, usage=total, cost_microusd=state.cost_microusd + cost)
