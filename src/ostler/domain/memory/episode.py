"""The episode that a session leaves behind: what it was to do, how it ended, and what it answered."""

import re
from typing import Any, Literal

from ostler.domain.memory.taint import is_recalled
from ostler.domain.provenance import Provenance

EPISODE = "episode"
"""The id of the call by which the runtime remembers what came of a session."""
TEXT_CHARACTERS_MAX = 2000
GOAL_CHARACTERS_MAX = 600
LEFT_OUT = "[…]"
"""Stands for what was recalled, and so is remembered already."""
_SENTENCES = re.compile(r"((?<=[.!?])\s+|\s*\n\s*)")
_TAG_CHARACTERS_MAX = 64


def episode(
    goal: str, status: Literal["completed", "failed"], reason: str, said: str, heard: Provenance
) -> dict[str, Any]:
    """What is to be remembered, as the arguments of the call. `said` is the answer, or why there is none.

    Sentences and lines that are, word for word, what a memory said and the user did not are left out: what is read is
    not remembered anew. What the model has put in other words cannot be told from what it has found out.
    """
    came = without_recalled(said[: 2 * TEXT_CHARACTERS_MAX], heard)
    how = "Completed" if status == "completed" else f"Failed ({reason})"
    text = f"Goal: {_cut(goal.strip(), GOAL_CHARACTERS_MAX)}\n{how}: {came}"
    tags = dict.fromkeys(("outcome", status, reason[:_TAG_CHARACTERS_MAX] or status))
    return {
        "text": _cut(text, TEXT_CHARACTERS_MAX),
        "kind": "episode",
        "importance": 0.5 if status == "completed" else 0.7,
        "tags": list(tags),
    }


def without_recalled(text: str, heard: Provenance) -> str:
    """The text without its sentences and lines that were only recalled."""
    parts = _SENTENCES.split(text.strip())
    kept: list[str] = []
    for sentence, space in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if not is_recalled(heard, sentence.rstrip(".!?")):
            kept += (sentence, space)
        elif kept[-2:-1] != [LEFT_OUT]:
            kept += (LEFT_OUT, space)
    return "".join(kept).strip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
