from collections.abc import AsyncIterator, Callable

import pytest

from ostler.adapters.providers.anthropic import Anthropic
from ostler.adapters.providers.openai import OpenAI
from ostler.testing.wire import WireServer
from tests.adapters.providers.recorded import DIALECTS, KEY

Reach = Callable[..., Anthropic | OpenAI]


@pytest.fixture
async def server() -> AsyncIterator[WireServer]:
    async with WireServer() as server:
        yield server


@pytest.fixture
async def reach() -> AsyncIterator[Reach]:
    """Makes providers of a dialect at an address, and closes them after the test."""
    made: list[Anthropic | OpenAI] = []

    def make(dialect: str, url: str, *, key: str = KEY) -> Anthropic | OpenAI:
        made.append(DIALECTS[dialect](api_key=key, base_url=url))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()
