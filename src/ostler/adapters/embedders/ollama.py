"""Ollama's own API for embeddings (https://docs.ollama.com/api/embed)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ostler.adapters.embedders.served import ServedEmbedder

BASE_URL = "http://127.0.0.1:11434"


class _Answer(msgspec.Struct):
    embeddings: list[list[float]]


class OllamaEmbedder(ServedEmbedder):
    """Vectors over `/api/embed`. Of texts beyond the model's window Ollama takes the beginning."""

    speaks = "ollama"
    path = "/api/embed"

    def body(self, texts: Sequence[str]) -> dict[str, Any]:
        asked = {"model": self.model.name, "input": list(texts), "truncate": True}
        return asked if self.model.dimensions is None else asked | {"dimensions": self.model.dimensions}

    def vectors(self, answer: bytes) -> list[Sequence[float]]:
        return [*msgspec.json.decode(answer, type=_Answer).embeddings]
