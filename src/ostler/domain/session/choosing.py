"""Which of several models answers the next request of a session, by its log alone."""

from typing import NamedTuple

import msgspec

from ostler.domain import context, gate
from ostler.domain.guard import called
from ostler.domain.session.events import CallExamined
from ostler.domain.session.state import OpenCall, State, as_asked
from ostler.domain.strategy.card import Ability, Card
from ostler.domain.strategy.choice import Choice, Known, Needs, NoModel, StrategySpec, choose
from ostler.domain.strategy.rules import holds

REPLY_TOKENS = 1_000
"""How long a reply is expected to be before a session has had any."""


class Again(NamedTuple):
    """Which model is asked after one has failed. A `round` begins anew once all have: not before there was a pause."""

    choice: Choice
    is_new_round: bool


def choice_for(state: State, found: CallExamined) -> Choice | NoModel:
    """The model for the next request, by what was found out about it.

    Who is unavailable for a time only is passed over, unless there is nobody else.
    """
    assert found.routing is not None, "candidates are looked at before one is chosen"
    at_us = found.routing.at_us
    away = _unavailable(found, at_us)
    denied = {card.name: reason for card in state.candidates if (reason := _denied(state, found, card, at_us))}
    chosen = _chosen(state, found, at_us, away | denied)
    if isinstance(chosen, NoModel) and away:
        anyway = _chosen(state, found, at_us, denied)
        if isinstance(anyway, Choice):
            because = f"{anyway.because}, although {away.get(anyway.model, 'no other can be asked')}"
            return msgspec.structs.replace(anyway, because=because)
        return anyway  # what would keep them from being asked even then
    return chosen


def choice_after_failure(state: State, call: OpenCall, at_us: int, *, is_final: bool) -> Again | None:
    """The model that is asked next in an open call whose last attempt failed; None if there is none.

    `is_final`: that model is not asked once more in this call.
    """
    last, found = call.choice, call.examined
    if last is None or found is None:
        return None
    state = as_asked(state)
    failed = tuple(dict.fromkeys((*last.failed, last.model)))
    given_up = tuple(dict.fromkeys((*last.given_up, last.model))) if is_final else last.given_up
    gone = dict.fromkeys(given_up, "it has failed for good")
    others = [card for card in state.candidates if card.name not in failed]
    denied = {card.name: reason for card in others if (reason := _denied(state, found, card, at_us, is_open=True))}
    away = _unavailable(found, at_us) | dict.fromkeys(failed, "it has failed in this call") | denied | gone
    chosen = _chosen(state, found, at_us, away)
    if isinstance(chosen, Choice):
        return Again(msgspec.structs.replace(chosen, failed=failed, given_up=given_up), False)
    chosen = _chosen(state, found, at_us, denied | gone)
    if isinstance(chosen, Choice):
        return Again(msgspec.structs.replace(chosen, given_up=given_up), True)
    return None


def with_model(state: State, name: str) -> State:
    """The state in which this candidate answers."""
    return msgspec.structs.replace(state, model=card_of(state, name).model)


def card_of(state: State, name: str) -> Card:
    """What is known of a candidate."""
    return next(card for card in state.candidates if card.name == name)


def needs_of(state: State, found: CallExamined) -> Needs:
    """What the next request asks of a model. Its reply is expected to be as long as the others."""
    settings, limit = state.agent.settings, state.agent.limits.cost_microusd
    spent = None if limit is None else limit - state.cost_microusd
    left = [amount for amount in (spent, found.cost_left_microusd) if amount is not None]
    usual = state.usage.output_tokens // state.steps if state.steps else REPLY_TOKENS
    return Needs(
        input_tokens=context.estimated_input_tokens(state),
        reply_tokens=min(usual or REPLY_TOKENS, settings.max_tokens),
        abilities=_abilities(state),
        microusd_left=min(left, default=None),
    )


def _abilities(state: State) -> tuple[Ability, ...]:
    found: list[Ability] = []
    if state.model.tools == "native" and state.guard.visible(state.agent.tools, state.inputs):
        found.append("tools")
    if state.images:
        found.append("images")
    if state.agent.returns is not None:
        found.append("structured")
    if state.agent.settings.reasoning not in (None, "none"):
        found.append("reasoning")
    return tuple(found)


def _chosen(state: State, found: CallExamined, at_us: int, excluded: dict[str, str]) -> Choice | NoModel:
    routing, strategy = found.routing, _strategy(state)
    assert routing is not None, "candidates are looked at before one is chosen"
    looked = msgspec.structs.replace(state, examined=found)
    facts = gate.facts_of(looked, None, {}, at_us) if strategy.rules else None
    known = Known(
        excluded=excluded,
        holds=tuple(holds(rule.condition, facts) for rule in strategy.rules) if facts is not None else (),
        scores=routing.scores,
        answer=routing.answer,
        fault=routing.fault,
    )
    return choose(strategy, state.candidates, needs_of(state, found), known)


def _strategy(state: State) -> StrategySpec:
    return state.strategy or StrategySpec()


def _unavailable(found: CallExamined, at_us: int) -> dict[str, str]:
    assert found.routing is not None, "candidates are looked at before one is chosen"
    return {one.model: one.reason for one in found.routing.unavailable if one.until_us is None or at_us < one.until_us}


def _denied(state: State, found: CallExamined, card: Card, at_us: int, *, is_open: bool = False) -> str | None:
    """Why rules, or its window by its own count, keep a candidate from being asked.

    In a call that is open, nobody can be asked for an approval.
    """
    rules_only = msgspec.structs.replace(found, refused=None, asks=False, hooks=(), budgets=())
    looked = msgspec.structs.replace(state, model=card.model, examined=rules_only)
    window, expected = context.window_of(looked), context.estimated_input_tokens(looked)
    if window is not None and expected + context.MIN_REPLY_TOKENS > window:
        return f"about {expected} tokens do not fit into its window of {window}"
    judged = gate.judge_model_by_policies(looked, at_us)
    if isinstance(judged, gate.Refused):
        reason = judged.reason or "what the policies want to know of it is not known"
        return f"{judged.verdict.rule}: {reason}" if judged.verdict.rule else reason
    if isinstance(judged, gate.Asked) and is_open:
        return "people would have to approve it"
    if is_open and state.guard.limits_on(called(None, card.model.name)):
        return "a limit counts its calls, and this one was counted for another"
    return None
