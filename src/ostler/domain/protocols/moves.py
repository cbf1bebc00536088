"""What a protocol can want, and what it makes of a reply."""

import msgspec

from ostler.domain.model import AskedCall


class AskModel(msgspec.Struct, frozen=True, gc=False):
    """Ask the model, with all that is known by now."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The goal is reached."""

    text: str


Move = AskModel | Answer


class Understood(msgspec.Struct, frozen=True, gc=False):
    """A reply as the protocol understands it: tool calls, or an answer, or a defect that the model is told of.

    `text` is what is kept of the reply; `answer` None with neither calls nor defect makes the whole text the answer.
    `misfit` says why it is not an answer that the agent returns; the model is told so by the defect.
    """

    text: str
    calls: tuple[AskedCall, ...] = ()
    answer: str | None = None
    defect: str | None = None
    misfit: str = ""
