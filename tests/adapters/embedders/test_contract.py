"""Every embedder keeps the contract of the port."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from ostler.adapters.embedders.hashing import HashingEmbedder
from ostler.adapters.embedders.ollama import OllamaEmbedder
from ostler.adapters.embedders.openai import OpenAIEmbedder
from ostler.adapters.embedders.served import Model
from ostler.ports.memory import Embedder
from ostler.testing.contracts.embedder import EmbedderContract
from ostler.testing.wire import WireServer
from ostler.testing.wire_embeddings import Embeddings


class TestHashing(EmbedderContract):
    def make(self) -> Embedder:
        return HashingEmbedder()


class Served(EmbedderContract):
    url: str

    @pytest.fixture(autouse=True)
    async def serve(self) -> AsyncIterator[None]:
        async with WireServer() as server:
            server.otherwise = Embeddings().answer
            self.url = server.url
            yield


def refuse(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(503, json={"error": {"message": "down for a while"}})


class TestOpenAI(Served):
    def make(self) -> Embedder:
        return OpenAIEmbedder(Model("text-embedding-3-small"), f"{self.url}/v1")

    def broken(self) -> Embedder:
        return OpenAIEmbedder(Model("m"), f"{self.url}/v1", transport=httpx2.MockTransport(refuse))


class TestOllama(Served):
    def make(self) -> Embedder:
        return OllamaEmbedder(Model("bge-m3", query_prefix="query: "), self.url)

    def broken(self) -> Embedder:
        return OllamaEmbedder(Model("m"), self.url, transport=httpx2.MockTransport(refuse))
