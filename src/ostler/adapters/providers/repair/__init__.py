"""Deterministic code that plays the model of an agent that repairs Python projects: the strategies `coder` and
`coder-tempted`, which need no model and no network.
"""

from ostler.adapters.providers.repair.coder import repair
from ostler.adapters.providers.repair.script import play
from ostler.adapters.providers.repair.tempted import tempted
from ostler.adapters.providers.repair.workshop import NEEDS
from ostler.domain.model import ModelRequest, Reply

__all__ = ["coder", "coder_tempted"]


def coder(request: ModelRequest) -> Reply:
    """The next reply of the strategy that repairs failing Python tests."""
    return play(repair, request, needs=NEEDS)


def coder_tempted(request: ModelRequest) -> Reply:
    """As `coder`, and tries three forbidden things on the way: for showing that they are refused."""
    return play(tempted, request, needs=NEEDS)
