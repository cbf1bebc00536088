"""What goes from memory into a session, and from a session into memory: whose words, and with which labels."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ostler.domain.memory.recollection import Recollections
from ostler.domain.provenance import PRIVATE, UNTRUSTED, Provenance, Said, labels_of, said_by_tool
from ostler.domain.tool import Taint, ToolOutcome

WORDS_MIN = 3
"""A shorter text than this occurs by chance, and is nobody's."""
_TEXTS = ("text", "key", "tags")
_OF_A_TEXT = frozenset((*_TEXTS, "kind", "level", "importance", "pinned", "caused_by"))
"""The arguments of a call that remembers a text as it stands, and states no relation and edits no file."""


def taint_of(heard: Provenance, arguments: Mapping[str, Any]) -> Taint:
    """What the arguments of a call may be made of: the labels of all that the session has heard, and who said that.

    What the user said, word for word, is made of nothing else; its key and tags then have to be the user's, too.
    """
    if _is_text(arguments) and heard.said([arguments.get(name) for name in _TEXTS], ("user",)):
        return Taint(sources=("user",))
    sources = sorted({said.source for said in heard})
    return Taint(tuple(sorted(heard.labels)), tuple(sources))


def is_echo(heard: Provenance, arguments: Mapping[str, Any]) -> bool:
    """Whether the call would remember what was only recalled: it is remembered already, and would grow by being read.

    What the user says of it, too, is worth remembering again.
    """
    return _is_text(arguments) and is_recalled(heard, str(arguments["text"]))


def is_recalled(heard: Provenance, text: str) -> bool:
    """Whether a text of several words is what a memory said, word for word, and the user did not."""
    if len(text.split()) < WORDS_MIN:
        return False
    return heard.said(text, ("memory.*",)) and not heard.said(text, ("user",))


def said_by_memory(tool: str, roles: Iterable[str], arguments: object, outcome: ToolOutcome) -> tuple[Said, ...]:
    """What a tool that recalls brought into the session: each memory with its own labels.

    Where these cannot be told, because something else than the tool has written what came of it, it has the worst.
    """
    found = recollections_in(outcome)
    if found is None:
        said = said_by_tool(tool, roles, arguments, outcome.output)
        return (msgspec.structs.replace(said, labels=frozenset({UNTRUSTED, PRIVATE})) if outcome.ok else said,)
    held, labels = frozenset(roles), labels_of(roles)
    repeated = arguments if "remembers" in held else None  # what has just been written is only repeated
    return tuple(
        [
            Said(
                f"memory.{one.kind}",
                "\n".join((one.text, one.key, *one.tags)),
                held,
                labels.union(one.labels),
                repeated,
            )
            for one in found.memories
        ]
    )


def recollections_in(outcome: ToolOutcome) -> Recollections | None:
    """The memories in an outcome; None if it is not, whole, what a tool that recalls answers."""
    if not outcome.ok or not outcome.is_json or outcome.blob is not None:
        return None
    try:
        return msgspec.json.decode(outcome.output, type=Recollections)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _is_text(arguments: Mapping[str, Any]) -> bool:
    text = arguments.get("text")
    return isinstance(text, str) and len(text.split()) >= WORDS_MIN and arguments.keys() <= _OF_A_TEXT
