"""The wire formats in which servers make vectors of texts, as the test server speaks them.

    server.otherwise = Embeddings().answer

The vectors are made of the letters of a text, so that equal texts have equal ones and others hardly ever have.
"""

import struct
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from ostler.testing.wire import JSON, Answer, Asked


class Embeddings(msgspec.Struct):
    """Answers requests at `/embeddings` (OpenAI) and `/api/embed` (Ollama) with vectors of `dimensions` numbers.

    With `knows_base64` False it sends lists of numbers whatever is asked, as many servers do.
    """

    dimensions: int = 24
    knows_base64: bool = True

    def answer(self, asked: Asked) -> Answer:
        texts = asked.body["input"]
        length = asked.body.get("dimensions") or self.dimensions
        vectors = [vector_of(text, length) for text in ([texts] if isinstance(texts, str) else texts)]
        if asked.path.endswith("/api/embed"):
            return json_answer({"model": asked.body["model"], "embeddings": vectors, "total_duration": 14_143_917})
        is_packed = self.knows_base64 and asked.body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": packed(vector) if is_packed else vector}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 8, "total_tokens": 8}
        return json_answer({"object": "list", "data": data, "model": asked.body["model"], "usage": usage})


def vector_of(text: str, dimensions: int) -> list[float]:
    """The vector of a text, not of unit length."""
    seed = sha256(text.encode()).digest()
    found: list[float] = []
    while len(found) < dimensions:
        seed = sha256(seed).digest()
        found += [(byte - 127.5) / 64 for byte in seed]
    return found[:dimensions]


def packed(vector: Sequence[float]) -> str:
    """A vector as OpenAI packs it: little-endian 32-bit floats in Base64."""
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def json_answer(body: Any, *, status: int = 200) -> Answer:
    """An answer with this JSON."""
    return Answer(status=status, content_type=JSON, chunks=(msgspec.json.encode(body),))
