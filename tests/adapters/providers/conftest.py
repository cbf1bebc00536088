from collections.abc import AsyncIterator, Callable

import pytest

from ostler.testing.wire import WireServer
from tests.adapters.providers.recorded import DIALECTS, KEY, Provider

Reach = Callable[..., Provider]


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with WireServer() as server:
        yield server


@pytest.fixture
async def reach() -> AsyncIterator[Reach]:
    """Makes providers of a dialect at an address, and closes them after the test."""
    made: list[Provider] = []

    def make(dialect: str, url: str, *, key: str = KEY) -> Provider:
        made.append(DIALECTS[dialect](api_key=key, base_url=url))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()
