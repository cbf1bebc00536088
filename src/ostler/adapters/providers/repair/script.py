"""Plays a script of tool calls as if it were a model.

A script is a generator: it yields a turn, is sent what came of the turn's calls, and returns its final answer. The
next turn is found by running it from the start against the transcript, so that the transcript is all the state there
is: a script may be interrupted anywhere and goes on in another process.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import msgspec

from ostler.domain.model import AskedCall, AssistantMessage, Message, ModelRequest, Reply, ToolMessage, UserMessage


class Ask(msgspec.Struct, frozen=True):
    """One tool call to be asked for."""

    tool: str
    arguments: dict[str, Any]


class Turn(msgspec.Struct, frozen=True):
    """What the script says and the calls that it asks for; at least one."""

    text: str
    calls: tuple[Ask, ...]


class Seen(msgspec.Struct, frozen=True):
    """The observation of one call: `data` of a call that went well, else `error` and its `kind`."""

    ok: bool
    data: Any = None
    error: str = ""
    kind: str = ""
    truncated: bool = False

    @property
    def text(self) -> str:
        return self.data if isinstance(self.data, str) else msgspec.json.encode(self.data).decode()


T = TypeVar("T")
Steps = Generator[Turn, tuple[Seen, ...], T]
"""A part of a script, which ends with a result."""

Script = Steps[str]
Scriptwriter = Callable[[str], Script]
"""Writes the script for a goal."""


class Stuck(Exception):
    """There is no way on; the message says why, and is the final answer."""


_UNHEARD = "(I am deterministic code and cannot take what was just said into account; I go on.) "
_LOST = Seen(ok=False, error="no observation of this call is in the transcript", kind="unknown")


def play(writer: Scriptwriter, request: ModelRequest, *, needs: Sequence[str] = ()) -> Reply:
    """The next reply of the script for the goal in `request`. `needs` are the tools without which it cannot work.

    If a recorded turn is not the one that the script would have asked for (a model was exchanged in the middle, or an
    older version of the code wrote it), the script starts anew after it, from the world as it is.
    """
    missing = sorted(set(needs) - {tool.name for tool in request.tools})
    if missing:
        return Reply(text=f"I cannot work without these tools, which the agent does not have: {', '.join(missing)}.")
    goal, turns = _current_task(request.messages)
    begin = 0
    while True:
        followed, result = _follow(writer(goal), turns[begin:])
        if begin + followed == len(turns):
            break
        begin += max(followed, 1)
    if isinstance(result, str):
        return Reply(text=result)
    unheard = _UNHEARD if turns and isinstance(request.messages[-1], UserMessage) else ""
    calls = tuple(
        AskedCall(id=f"call_{number}", name=ask.tool, arguments=msgspec.json.encode(ask.arguments).decode())
        for number, ask in enumerate(result.calls, 1)
    )
    return Reply(text=unheard + result.text, calls=calls, stop="tool_calls")


_Played = tuple[AssistantMessage, tuple[Seen, ...]]


def _follow(script: Script, turns: Sequence[_Played]) -> tuple[int, Turn | str]:
    """How many of the recorded turns are the script's own, and what it says after them: a turn, or its answer."""
    followed = 0
    try:
        turn = next(script)
        for message, seen in turns:
            if not _is_same(turn, message):
                break
            followed += 1
            turn = script.send(seen)
    except StopIteration as end:
        return followed, str(end.value)
    return followed, turn


def _is_same(turn: Turn, message: AssistantMessage) -> bool:
    if [call.name for call in message.calls] != [ask.tool for ask in turn.calls]:
        return False
    try:
        return all(
            msgspec.json.decode(call.arguments) == ask.arguments
            for call, ask in zip(message.calls, turn.calls, strict=True)
        )
    except msgspec.DecodeError:
        return False


def _current_task(messages: Sequence[Message]) -> tuple[str, list[_Played]]:
    """The newest goal (a final answer ends a task, what a person says then begins one) and the turns played for it."""
    goal, is_answered = "", True
    turns: list[_Played] = []
    observed: dict[str, Seen] = {}
    pending: list[AssistantMessage] = []
    for message in messages:
        match message:
            case UserMessage(text):
                if is_answered:
                    goal, is_answered, observed, pending = text, False, {}, []
            case AssistantMessage(_, calls):
                is_answered = not calls
                pending.append(message)
            case ToolMessage(call, _, text):
                observed[call] = read_observation(text)
    for message in pending:
        turns.append((message, tuple(observed.get(call.id, _LOST) for call in message.calls)))
    return goal, turns


class _Observation(msgspec.Struct):
    ok: bool
    data: Any = None
    error: str = ""
    kind: str = ""
    truncated: bool = False


def read_observation(text: str) -> Seen:
    """The observation in a tool message; text of any other form is taken as the data of a call that went well."""
    try:
        observed = msgspec.json.decode(text, type=_Observation)
    except msgspec.MsgspecError:
        return Seen(ok=True, data=text)
    return Seen(observed.ok, observed.data, observed.error, observed.kind, observed.truncated)
