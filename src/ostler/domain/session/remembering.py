"""What the runtime asks for of its own: what bears on a goal before the model is asked, and an episode at the end.

Both are calls like any other: the gate judges them, and what came of them is in the log.
"""

from typing import Any

import msgspec

from ostler.domain.memory.episode import EPISODE, episode
from ostler.domain.memory.tools import RECALL, RECALLED_MAX, RECALLED_TOKENS_MAX, REMEMBER
from ostler.domain.model import AskedCall
from ostler.domain.session.events import AgentCancelled, AgentCompleted, AgentFailed, EpisodeRequested, RecallRequested
from ostler.domain.session.state import State


def recall_of(state: State) -> RecallRequested | None:
    """The call that recalls what bears on what was said last; None if nothing was, or it was asked for already."""
    mind, settings = state.mind, state.agent.memory
    if mind is None or settings is None or not mind.about or state.is_trial:
        return None
    arguments = {
        "query": mind.about,
        "limit": min(settings.recall_max, RECALLED_MAX),
        "tokens": min(settings.recall_tokens, RECALLED_TOKENS_MAX),
    }
    return RecallRequested(_asked(f"recall.{mind.recalls + 1}", RECALL, arguments))


def episode_of(state: State, last: AgentCompleted | AgentFailed | AgentCancelled) -> EpisodeRequested | None:
    """The call that remembers how the session ends; None where nothing is to be remembered.

    Whoever cancels a session or has paused it wants nothing more to begin, and a trial is no session of the agent.
    """
    mind, settings = state.mind, state.agent.memory
    if mind is None or settings is None or isinstance(last, AgentCancelled):
        return None
    is_held_up = state.cancelling_by is not None or state.pause is not None or mind.ending is not None
    if is_held_up or state.is_trial or not settings.episodes or state.agent.tool(REMEMBER) is None:
        return None
    if isinstance(last, AgentCompleted):
        arguments = episode(state.goal, "completed", last.reason, last.answer, state.provenance)
    else:
        arguments = episode(state.goal, "failed", last.reason, last.message, state.provenance)
    return EpisodeRequested(_asked(EPISODE, REMEMBER, arguments), last)


def _asked(call: str, tool: str, arguments: dict[str, Any]) -> AskedCall:
    return AskedCall(call, tool, msgspec.json.encode(arguments).decode())
