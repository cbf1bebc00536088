"""The contract of `Embedder`: every sentence of the port as a test."""

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from ostler.kernel.errors import EmbedderError
from ostler.ports.memory import Embedder

TEXTS = (
    "The invoice of May was paid.",
    "Ann prefers tea to coffee.",
    "zażółć gęślą jaźń",
    "会议改到星期四下午三点",
    "!?",
    "a",
)


def nearness(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors of unit length."""
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


class EmbedderContract(ABC):
    """Inherit, implement `make`, and pytest asks your embedder for every guarantee of the port.

    What is made twice speaks of the same space. `broken` makes one whose model cannot answer; None if there is none.
    """

    pytestmark = pytest.mark.asyncio

    @abstractmethod
    def make(self) -> Embedder: ...

    def broken(self) -> Embedder | None:
        return None

    @pytest_asyncio.fixture
    async def embedder(self) -> AsyncIterator[Embedder]:
        embedder = self.make()
        yield embedder
        await embedder.close()
        await embedder.close()

    async def test_every_vector_has_unit_length_and_as_many_numbers_as_the_others(self, embedder: Embedder) -> None:
        vectors = await embedder.embed(TEXTS)
        assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1.0] * len(TEXTS), abs=1e-5)
        assert len({len(vector) for vector in vectors}) == 1

    async def test_no_texts_have_no_vectors(self, embedder: Embedder) -> None:
        assert await embedder.embed([]) == []

    async def test_vectors_come_in_the_order_of_the_texts(self, embedder: Embedder) -> None:
        together = await embedder.embed(TEXTS)
        reverse = await embedder.embed(TEXTS[::-1])
        alone = [(await embedder.embed([text]))[0] for text in TEXTS]
        assert [list(vector) for vector in reverse[::-1]] == [list(vector) for vector in together]
        assert [list(vector) for vector in alone] == [list(vector) for vector in together]

    async def test_more_texts_than_fit_into_one_request_lose_none(self, embedder: Embedder) -> None:
        texts = [f"Memory number {number} of many." for number in range(200)]
        vectors = await embedder.embed(texts)
        assert len(vectors) == 200
        assert list(vectors[137]) == list((await embedder.embed([texts[137]]))[0])

    async def test_a_text_is_nearer_to_itself_than_to_others(self, embedder: Embedder) -> None:
        vectors = await embedder.embed([*TEXTS, TEXTS[1]])
        assert nearness(vectors[1], vectors[-1]) == pytest.approx(1.0, abs=1e-5)
        assert nearness(vectors[0], vectors[1]) < 0.999

    @pytest.mark.parametrize("text", ["", " \n\t", "\ud800", "x" * 300_000, "word " * 60_000, "\x00"])
    async def test_whatever_the_text_it_has_a_vector(self, embedder: Embedder, text: str) -> None:
        (vector,) = await embedder.embed([text])
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)

    async def test_what_is_asked_and_what_is_found_stand_in_one_space(self, embedder: Embedder) -> None:
        (asked,) = await embedder.embed([TEXTS[0]], purpose="query")
        (found,) = await embedder.embed([TEXTS[0]], purpose="document")
        assert len(asked) == len(found)

    async def test_the_fingerprint_is_the_same_each_time_it_is_made(self, embedder: Embedder) -> None:
        again = self.make()
        assert embedder.fingerprint == again.fingerprint
        assert embedder.fingerprint.isprintable()
        assert embedder.kind in ("semantic", "lexical")
        await again.close()

    async def test_a_failure_is_an_error_of_its_own_kind_and_ends_with_it(self) -> None:
        broken = self.broken()
        if broken is None:
            return
        with pytest.raises(EmbedderError) as caught:
            await broken.embed(["a"])
        assert caught.value.message
        await broken.close()
