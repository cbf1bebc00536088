"""Models that are deterministic Python code: they need no key and no network, and answer the same every time."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from ostler.domain.model import ModelRequest, Reply
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import ProviderRejected

Strategy = Callable[[ModelRequest], Reply]
"""Plays a model. A pure function of the request: sessions go on in other processes, where nothing else is known."""


class StrategyProvider:
    """A `ModelProvider` whose models are functions; the model's name selects one.

    Strategies spend no tokens, and none are claimed: the reply's usage is whatever the function says, zero by default.
    """

    def __init__(self, strategies: Mapping[str, Strategy]) -> None:
        self._strategies = dict(strategies)

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> Reply:
        name = request.model.name
        strategy = self._strategies.get(name)
        if strategy is None:
            raise _unknown(name, self._strategies)
        # A strategy may think for a while (the bundled one parses code): the event loop goes on meanwhile.
        reply = await asyncio.to_thread(strategy, request)
        if reply.text:
            on_text(reply.text)
        return reply if reply.model else msgspec.structs.replace(reply, model=name)

    async def close(self) -> None:
        """Nothing is held."""


def _unknown(name: str, strategies: Mapping[str, Strategy]) -> ProviderRejected:
    near = did_you_mean(name, list(strategies))
    return ProviderRejected(
        f"There is no strategy {name!r}" + (f" (did you mean {near!r}?)." if near else "."),
        hint=f"Strategies here: {', '.join(sorted(strategies)) or 'none'}.",
    )
