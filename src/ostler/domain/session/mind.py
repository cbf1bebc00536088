"""What a session of an agent with memory has in mind: what is true of it after each thing that happens."""

from typing import Any

import msgspec

from ostler.domain.memory.block import recalled_block, working_block
from ostler.domain.memory.taint import recollections_in, taint_of
from ostler.domain.memory.tools import QUERY_CHARACTERS_MAX, RECALL
from ostler.domain.memory.working import WORKING_TOOLS, Performed, perform
from ostler.domain.model import UserMessage
from ostler.domain.session.events import ContextCompacted, EpisodeRequested, RecallRequested
from ostler.domain.session.state import Mind, OpenCall, State
from ostler.domain.tokens import counts_of_messages, minus, plus
from ostler.domain.tool import ToolOutcome

_replace = msgspec.structs.replace


def heard_goal(state: State) -> State:
    """A session that begins, and recalls what bears on its goal before anything else."""
    if state.agent.memory is None:
        return state
    return _replace(state, mind=Mind(about=_about(state, "", state.goal)))


def heard_person(state: State, text: str) -> State:
    """A person has said something, for which there may be something to recall."""
    if state.mind is None:
        return state
    return _replace(state, mind=_replace(state.mind, about=_about(state, state.mind.about, text)))


def evolve(state: State, event: RecallRequested | EpisodeRequested) -> State:
    """What is true after the runtime has asked for a call of its own, which comes before anything else.

    With an end, nothing else comes any more.
    """
    mind = state.mind or Mind()
    mind = _replace(mind, asked=event.asked.id, about="")
    match event:
        case RecallRequested():
            mind = _replace(mind, recalls=mind.recalls + 1)
            return _replace(state, mind=mind, asked=(event.asked, *state.asked), examined=None)
        case EpisodeRequested():
            return _replace(
                state,
                mind=_replace(mind, ending=event.end),
                asked=(event.asked,),
                question=None,
                granted=None,
                examined=None,
                measuring=(),
                undoing=(),
            )


def came_of_own(state: State, outcome: ToolOutcome) -> State:
    """After the runtime's own call, whatever came of it: the model is told what was found and it was not told yet."""
    mind = state.mind
    assert mind is not None, "only a session with a mind has calls of its own"
    mind = _replace(mind, asked="")
    found = None if mind.ending is not None else recollections_in(outcome)
    text = recalled_block(found, mind.known) if found is not None else ""
    if found is None or not text:
        return _replace(state, mind=mind)
    known = tuple(dict.fromkeys((*mind.known, *[one.id for one in found.memories])))
    return _replace(state, mind=_replace(mind, known=known), inbox=(*state.inbox, UserMessage(text)))


def is_working(state: State, tool: str) -> bool:
    """Whether a session performs calls of this tool by itself, on its working memory."""
    return state.mind is not None and tool in WORKING_TOOLS


def work(state: State, call: str, tool: str, arguments: dict[str, Any]) -> Performed:
    """What a call makes of working memory, and what it is answered."""
    mind, settings = state.mind, state.agent.memory
    assert mind is not None, "only a session with a mind has a working memory"
    assert settings is not None, "only an agent with memory has sessions with a mind"
    labels = taint_of(state.provenance, arguments).labels
    return perform(mind.working, tool, arguments, settings=settings, call=call, labels=labels)


def worked(state: State, call: OpenCall, outcome: ToolOutcome) -> State:
    """After a call on working memory that went well; any other has changed nothing."""
    mind = state.mind
    if mind is None or not outcome.ok or not is_working(state, call.tool):
        return state
    working = work(state, call.id, call.tool, call.arguments or {}).memory
    text = working_block(working)
    shown = (UserMessage(text),) if text else ()
    fixed = plus(minus(state.context.fixed, counts_of_messages(mind.shown)), counts_of_messages(shown))
    return _replace(
        state, mind=_replace(mind, working=working, shown=shown), context=_replace(state.context, fixed=fixed)
    )


def compacted(state: State, event: ContextCompacted) -> State:
    """After turns were left out, memories may be told again that were told in them."""
    if state.mind is None or not event.spans:
        return state
    return _replace(state, mind=_replace(state.mind, known=()))


def _about(state: State, before: str, text: str) -> str:
    """What is to be recalled for: nothing where the agent does not want that, or has no tool for it."""
    settings = state.agent.memory
    is_wanted = settings is not None and settings.recall_max and settings.recall_tokens
    if not is_wanted or state.is_trial or state.agent.tool(RECALL) is None:
        return ""
    return f"{text}\n{before}".strip()[:QUERY_CHARACTERS_MAX]
