"""The Embeddings API of OpenAI, as vLLM, llama.cpp, TEI, LM Studio and many others speak it too
(https://platform.openai.com/docs/api-reference/embeddings/create).
"""

import sys
from array import array
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import httpx2
import msgspec

from ostler.adapters.embedders.served import Model, ServedEmbedder, key_of

BASE_URL = "https://api.openai.com/v1"


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]


class OpenAIEmbedder(ServedEmbedder):
    """Vectors over `/embeddings`. `base_url` ends where that begins, mostly in `/v1`."""

    speaks = "openai"
    path = "/embeddings"

    def __init__(
        self,
        model: Model,
        base_url: str = BASE_URL,
        *,
        api_key: str | None = None,
        key_name: str = "",
        timeout_s: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        secret = key_of("the embedder", api_key)
        super().__init__(model, base_url, secret=secret, key_name=key_name, timeout_s=timeout_s, transport=transport)

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        asked = {"model": self.model.name, "input": list(texts), "encoding_format": "base64"}
        return asked if self.model.dimensions is None else asked | {"dimensions": self.model.dimensions}

    def vectors(self, answer: bytes) -> list[Sequence[float]]:
        items = msgspec.json.decode(answer, type=_Answer).data
        numbered = all(item.index is not None for item in items)
        if numbered:
            items.sort(key=lambda item: item.index or 0)
            if [item.index for item in items] != list(range(len(items))):
                raise ValueError("its vectors are numbered neither from 0 nor without gaps")
        return [_numbers(item.embedding) for item in items]


def _numbers(embedding: str | list[float]) -> Sequence[float]:
    """A vector, which servers that do not know Base64 send as a list, and others as little-endian 32-bit floats."""
    if not isinstance(embedding, str):
        return embedding
    numbers = array("f")
    numbers.frombytes(b64decode(embedding, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
