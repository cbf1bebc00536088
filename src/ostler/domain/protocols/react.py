"""ReAct: reason, act, observe, until there is an answer (Yao et al. 2023, https://arxiv.org/abs/2210.03629).

With native tool calling the reply carries its calls; a model without it is spoken to in the text grammar of
`domain.protocols.grammar`, and its reply is parsed.
"""

from ostler.domain.agent import AgentSpec
from ostler.domain.model import AskedCall, ModelRef, Reply
from ostler.domain.protocols import grammar
from ostler.domain.protocols.moves import Answer, AskModel, Move, Understood
from ostler.domain.session.state import State
from ostler.domain.tool import ToolSpec


def system(agent: AgentSpec, model: ModelRef, tools: tuple[ToolSpec, ...]) -> str:
    """The system prompt: the agent's instructions and, for the text grammar, these tools with their schemas."""
    if model.tools == "native":
        return agent.instructions
    return f"{agent.instructions}\n\n{grammar.describe(tools)}"


def stop(model: ModelRef) -> tuple[str, ...]:
    """Stop sequences beyond the agent's own: a model must not write its own observations."""
    return () if model.tools == "native" else grammar.STOP


def understand(reply: Reply, model: ModelRef, turn: str) -> Understood:
    """What the reply of this turn asks for. Calls get ids of ours, `3.1`, `3.2` … in turn `3`."""
    if reply.stop == "length":
        return Understood(text=reply.text, defect="Your reply was cut off at its maximum length. Be briefer.")
    if model.tools == "text" and not reply.calls:
        return _understand_text(reply.text, turn)
    calls = tuple([AskedCall(f"{turn}.{n}", call.name, call.arguments) for n, call in enumerate(reply.calls, 1)])
    if not calls and not reply.text.strip():
        return Understood(text="", defect="Your reply was empty. Call a tool, or answer.")
    return Understood(text=reply.text, calls=calls)


def _understand_text(text: str, turn: str) -> Understood:
    step = grammar.parse(text)
    if step.defect is not None:
        return Understood(text=step.text, defect=step.defect)
    if step.answer is not None:
        return Understood(text=step.text, answer=step.answer)
    assert step.action is not None, "a step has an action, an answer or a defect"
    return Understood(text=step.text, calls=(AskedCall(f"{turn}.1", step.action.tool, step.action.arguments),))


def next_move(state: State) -> Move:
    """What to do when no call is asked or under way."""
    return AskModel() if state.answer is None else Answer(state.answer)
