"""ReAct: reason, act, observe, until there is an answer (Yao et al. 2023, https://arxiv.org/abs/2210.03629).

With native tool calling the reply carries its calls; a model without it is spoken to in the text grammar of
`domain.protocols.grammar`, and its reply is parsed.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ostler.domain.agent import AgentSpec
from ostler.domain.model import AskedCall, ModelRef, Reply
from ostler.domain.protocols import grammar
from ostler.domain.protocols.moves import Answer, AskModel, Move, Understood
from ostler.domain.schema import Problem, judge_answer
from ostler.domain.session.state import State
from ostler.domain.tool import ToolSpec

SCHEMA_CHARS_MAX = 8_000
"""A schema that is longer than this is not told again to a model whose answer does not fit it."""


def system(agent: AgentSpec, model: ModelRef, tools: tuple[ToolSpec, ...]) -> str:
    """The system prompt: the agent's instructions and, for the text grammar, these tools with their schemas."""
    if model.tools == "native":
        return agent.instructions
    return f"{agent.instructions}\n\n{grammar.describe(tools, agent.returns)}"


def stop(model: ModelRef) -> tuple[str, ...]:
    """Stop sequences beyond the agent's own: a model must not write its own observations."""
    return () if model.tools == "native" else grammar.STOP


def understand(reply: Reply, model: ModelRef, turn: str, returns: dict[str, Any] | None = None) -> Understood:
    """What the reply of this turn asks for. Calls get ids of ours, `3.1`, `3.2` … in turn `3`.

    An answer has to fit `returns`; what could be repaired of it by the model is a defect.
    """
    understood = _understand(reply, model, turn)
    is_answer = not understood.calls and understood.defect is None and reply.stop != "refusal"
    return understood if returns is None or not is_answer else _fitted(understood, returns)


def fitted(answer: str, returns: dict[str, Any] | None) -> tuple[str, str]:
    """An answer as the agent returns it, and what is wrong with it; empty if it fits."""
    if returns is None:
        return answer, ""
    fitting, problems = judge_answer(answer, returns)
    return fitting, _listed(problems)


def _listed(problems: Sequence[Problem]) -> str:
    return "; ".join(": ".join(filter(None, problem)) for problem in problems)


def _fitted(understood: Understood, returns: dict[str, Any]) -> Understood:
    said = understood.text if understood.answer is None else understood.answer
    answer, problems = judge_answer(said, returns)
    if not problems:
        return Understood(understood.text, answer=None if answer == understood.text else answer)
    schema = msgspec.json.encode(returns).decode()
    schema = f": {schema}" if len(schema) <= SCHEMA_CHARS_MAX else ""
    wrong = _listed(problems)
    defect = f"Your answer does not fit: {wrong}. Answer again, with nothing but JSON that fits the JSON Schema{schema}"
    return Understood(understood.text, defect=defect, misfit=wrong)


def _understand(reply: Reply, model: ModelRef, turn: str) -> Understood:
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
