"""The conversation so far."""

from ostler.domain.growing import Growing
from ostler.domain.model import Message


class Transcript(Growing[Message]):
    """What a model has seen and said, in order."""

    __slots__ = ()
