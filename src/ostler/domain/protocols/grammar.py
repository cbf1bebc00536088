"""The text grammar Thought / Action / Observation / Final Answer, for models without native tool calling.

    Thought: I have to know the stock.
    Action: stock {"sku": "A-17"}
    Observation: {"ok":true,"data":3}        <- written by the runtime, never by the model
    Thought: I can answer.
    Final Answer: 3

A reply is one step. The first action or final answer in it counts. What a model writes after an action, it writes
without knowing the outcome, and what it writes after an `Observation:` of its own, it has made up: both are discarded.
A final answer is the rest of the reply, so that nothing of it is lost.

Headers stand at the start of a line (at most three spaces, a list mark or markdown before them), in any case, and are
these words exactly. Reading a reply takes time linear in its length, whatever it is, and never raises.
"""

import re
from typing import Any

import msgspec

from ostler.domain.schema.text import unfenced
from ostler.domain.tool import ToolSpec

STOP = ("\nObservation:",)
"""Stop sequences for the model."""


class Action(msgspec.Struct, frozen=True):
    """`arguments` is what stands after the tool's name, JSON or not: the gate judges it, and tells the model."""

    tool: str
    arguments: str = "{}"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply says: exactly one of `action`, `answer` and `defect`, which tells the model what to write instead.

    `text` is what is kept of the reply; the rest was discarded.
    """

    thought: str = ""
    action: Action | None = None
    answer: str | None = None
    defect: str | None = None
    text: str = ""


# Every repetition is bounded or cannot be followed by what it repeats: this is what keeps reading linear.
_START = r"^[ ]{0,3}(?:(?:[-*+>]|#{1,6}|[0-9]{1,3}[.)])[ \t]{1,3})?[*_`]{0,3}"
_COLON = r"[*_`]{0,3}[ \t]{0,8}[:\uff1a][*_`]{0,3}"
_FLAGS = re.ASCII | re.IGNORECASE | re.MULTILINE
_HEADER = re.compile(rf"{_START}(thought|action|final[ _]answer){_COLON}", _FLAGS)
_OBSERVATION = re.compile(rf"{_START}observation(?:[ ]?[0-9]{{1,3}})?{_COLON}", _FLAGS)
_INPUT = re.compile(rf"{_START}action[ _]input{_COLON}", _FLAGS)
_FINAL = re.compile(r"\s*[*`]{0,3}final[ _]answer(?![\w-])[*`]{0,3}[ \t]{0,8}([:\uff1a])?", _FLAGS)
_TOOL = re.compile(r"[*`]{0,3}((?:[^\s(){}\[\]\"'`*:]|:(?=[^\s(){}\[\]\"'`*:]))+)[*`]{0,3}[ \t]{0,8}:?", re.ASCII)

_FORM = 'Write one line "Action: TOOL {ARGUMENTS}" with the arguments as a JSON object, or "Final Answer: ANSWER".'


def parse(text: str) -> Step:
    """The step that a reply takes."""
    forged = _OBSERVATION.search(text)
    kept = text[: forged.start()] if forged else text
    thoughts: list[str] = []
    position = 0
    for header in _HEADER.finditer(kept):
        thoughts.append(kept[position : header.start()].strip())
        position = header.end()
        kind = header[1].lower()
        if kind == "action":
            return _act(kept, position, _joined(thoughts))
        if kind != "thought":
            return _answer(kept, position, _joined(thoughts))
    thoughts.append(kept[position:].strip())
    return Step(thought=_joined(thoughts), defect=_undecided(kept, forged is not None), text=kept.rstrip())


def _joined(thoughts: list[str]) -> str:
    return "\n".join(filter(None, thoughts))


def _undecided(kept: str, is_forged: bool) -> str:
    if is_forged:
        return f"You wrote an observation yourself; it was discarded, with all that followed. {_FORM}"
    return f"Your reply {'has neither an action nor a final answer' if kept.strip() else 'is empty'}. {_FORM}"


def _answer(kept: str, position: int, thought: str, *, may_be_called: bool = False) -> Step:
    answer = kept[position:].strip()
    if may_be_called and answer.startswith("(") and answer.find(")") == len(answer) - 1:
        answer = answer[1:-1].strip()
    if not answer:
        return Step(thought=thought, defect=f"Your final answer is empty. {_FORM}", text=kept.rstrip())
    return Step(thought=thought, answer=answer, text=kept.rstrip())


def _act(kept: str, position: int, thought: str) -> Step:
    final = _FINAL.match(kept, position)
    if final is not None:
        return _answer(kept, final.end(), thought, may_be_called=final[1] is None)
    following = _HEADER.search(kept, position)
    end = following.start() if following else len(kept)
    action = _action(kept[position:end].strip())
    defect = None if action else f"Your action does not begin with the name of a tool. {_FORM}"
    return Step(thought=thought, action=action, defect=defect, text=kept[:end].rstrip())


def _action(body: str) -> Action | None:
    """`tool {…}`, `tool: {…}`, `tool({…})` or `tool`; None if there is no name where it should be."""
    body = unfenced(body)
    name = _TOOL.match(body)
    if name is None:
        return None
    rest = body[name.end() :].strip()
    given = _INPUT.match(rest)
    if given is not None:
        rest = rest[given.end() :].strip()
    if rest.startswith("(") and rest.endswith(")"):
        rest = rest[1:-1].strip()
    return Action(name[1], unfenced(rest) or "{}")


def render(step: Step) -> str:
    """The step in the grammar. A line within it that looks like a header is indented, and so is none."""
    thought = f"Thought: {_without_headers(step.thought)}\n" if step.thought else ""
    if step.action is not None:
        return f"{thought}Action: {step.action.tool} {step.action.arguments}"
    if step.answer is not None:
        return f"{thought}Final Answer: {_OBSERVATION.sub(_INDENTED, step.answer)}"
    return thought.rstrip()


_INDENTED = r"    \g<0>"


def _without_headers(text: str) -> str:
    return _OBSERVATION.sub(_INDENTED, _HEADER.sub(_INDENTED, text))


def describe(tools: tuple[ToolSpec, ...], returns: dict[str, Any] | None = None) -> str:
    """The part of the system prompt that explains the grammar, what the answer is to be, and lists the tools."""
    how_to_answer = _HOW_TO_ANSWER
    if returns is not None:
        how_to_answer += f"\n\nThe answer is JSON that fits this schema: {msgspec.json.encode(returns).decode()}"
    if not tools:
        return f"{how_to_answer}\n\nYou have no tools."
    listed = "\n\n".join(
        f"{tool.name}: {tool.description}\nArguments (JSON Schema): {msgspec.json.encode(tool.parameters).decode()}"
        for tool in tools
    )
    example = f"Action: {tools[0].name} {msgspec.json.encode(_sample(tools[0].parameters)).decode()}"
    return f"{_HOW_TO_ACT.format(example=example)}\n\n{how_to_answer}\n\nTools:\n\n{listed}"


_HOW_TO_ACT = """\
You work in steps. In each step, write one thought and one action, and stop:

Thought: what you know, and what you need to know next
{example}

The action is the name of a tool and its arguments as one JSON object, in which line breaks are written \\n.
The outcome is then told to you in a line that begins with "Observation:". Never write such a line yourself."""

_HOW_TO_ANSWER = """\
When the goal is reached, write your answer instead of an action:

Thought: why the goal is reached
Final Answer: the whole answer"""

_SAMPLES: dict[str, Any] = {"string": "…", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}


def _sample(parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the right form for an example: the required ones."""
    properties: dict[str, Any] = parameters.get("properties", {})
    return {name: _sample_value(properties.get(name, True)) for name in parameters.get("required", ())}


def _sample_value(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return "…"
    for examples in (schema.get("examples"), schema.get("enum")):
        if isinstance(examples, list) and examples:
            return examples[0]
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    return _SAMPLES.get(str(schema.get("type")), "…")
