"""Vectors without a model: they tell how alike the words of texts are, and nothing of what these mean.

The hashing trick with signs (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning") over the
words of a text and their runs of four characters, so that `invoice` is near `invoices`. The same text has the same
vector in every process and every version: change anything here, and `VERSION` has to change.
"""

import asyncio
import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from ostler.domain.memory.memory import normal
from ostler.kernel.errors import ConfigurationError

VERSION = 1
DIMENSIONS = 1024
DIMENSIONS_MIN, DIMENSIONS_MAX = 16, 65_536
RUN = 4
"""Characters of a word that are looked at together."""
KEPT_WORDS = 32_768
LONG_WORD = 64
"""What is longer is no word that comes again."""
AT_ONCE = 64
"""Texts after which others get their turn."""

_WORD = re.compile(r"\w+")


class HashingEmbedder:
    """Lexical vectors of `dimensions` numbers, made in this process in about half a millisecond each."""

    kind: Literal["semantic", "lexical"] = "lexical"

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        """Raises `ConfigurationError` for a length that makes no sense."""
        if not DIMENSIONS_MIN <= dimensions <= DIMENSIONS_MAX:
            raise ConfigurationError(
                f"Hashing to {dimensions} dimensions makes no sense.",
                hint=f"Between {DIMENSIONS_MIN} and {DIMENSIONS_MAX} do; the default is {DIMENSIONS}.",
            )
        self.fingerprint = f"hashing:words+{RUN}-grams:{VERSION}:{dimensions}"
        self._dimensions = dimensions
        self._features = lru_cache(maxsize=KEPT_WORDS)(_features)

    async def embed(
        self, texts: Sequence[str], *, purpose: Literal["document", "query"] = "document"
    ) -> list[Sequence[float]]:
        vectors: list[Sequence[float]] = []
        for number, text in enumerate(texts, 1):
            vectors.append(self._vector(text))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return vectors

    async def close(self) -> None:
        self._features.cache_clear()

    def _vector(self, text: str) -> Sequence[float]:
        words = normal(text)
        sums = self._summed(_WORD.findall(words))
        length = math.sqrt(sum(value * value for value in sums))
        if not length:  # no words, or words that cancel each other out: the text as a whole stands for itself
            sums[_slot(words, self._dimensions)[0]] = length = 1.0
        return array("f", [value / length for value in sums])

    def _summed(self, words: Sequence[str]) -> list[float]:
        """What the words add up to. One that comes again counts less each time."""
        sums = [0.0] * self._dimensions
        for word, count in Counter(words).items():
            find = self._features if len(word) <= LONG_WORD else _features
            weight = 1.0 + math.log(count)
            for slot, value in find(word, self._dimensions):
                sums[slot] += weight * value
        return sums


def _features(word: str, dimensions: int) -> tuple[tuple[int, float], ...]:
    """Where a word stands in a vector, and how strongly; its runs together as strongly as the word itself."""
    framed = f"<{word}>"
    runs = {framed[start : start + RUN] for start in range(len(framed) - RUN + 1)}
    share = 1.0 / math.sqrt(len(runs) or 1)
    slot, sign = _slot(f"word {word}", dimensions)
    places = [(slot, sign)]
    for run in sorted(runs):
        slot, sign = _slot(f"run {run}", dimensions)
        places.append((slot, sign * share))
    return tuple(places)


def _slot(feature: str, dimensions: int) -> tuple[int, float]:
    digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    return (number >> 1) % dimensions, 1.0 if number & 1 else -1.0
