"""Vectors without a model: the same everywhere and for ever, and near where words are alike."""

import subprocess
import sys

import pytest

from ostler.adapters.embedders.hashing import HashingEmbedder
from ostler.kernel.errors import ConfigurationError
from ostler.testing.contracts.embedder import nearness

TEXT = "Ann prefers tea, and Bob was late on the 3rd."

DIGEST = """
import asyncio, hashlib
from ostler.adapters.embedders.hashing import HashingEmbedder
(vector,) = asyncio.run(HashingEmbedder().embed([%r]))
print(hashlib.sha256(vector.tobytes()).hexdigest()[:16])
"""


async def test_the_vector_of_a_text_never_changes_while_the_fingerprint_stays() -> None:
    embedder = HashingEmbedder(32)
    (vector,) = await embedder.embed(["tea for two"])
    slots = {slot: round(value, 4) for slot, value in enumerate(vector) if value}
    assert embedder.fingerprint == "hashing:words+4-grams:1:32"
    assert slots == GOLDEN


GOLDEN = {2: 0.1368, 3: 0.3302, 6: -0.467, 10: 0.3302, 25: 0.3302, 28: 0.467, 29: -0.3302, 30: -0.3302}


@pytest.mark.parametrize("seed", ["0", "1"])
def test_another_process_makes_the_same_vector(seed: str) -> None:
    made = [
        subprocess.run(
            [sys.executable, "-c", DIGEST % TEXT],
            env={"PYTHONHASHSEED": chosen, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for chosen in (seed, "17")
    ]
    assert made[0] == made[1] != ""


async def test_texts_with_like_words_are_near_and_others_are_not() -> None:
    embedder = HashingEmbedder()
    asked, like, other = await embedder.embed(["the invoice of May", "invoices of may", "a hotel in Rome"])
    assert nearness(asked, like) > 0.5
    assert abs(nearness(asked, other)) < 0.15


async def test_case_width_and_spaces_do_not_count() -> None:
    one, other = await HashingEmbedder().embed(["Paid  In FULL", "paid in full"])
    assert list(one) == list(other)


async def test_it_is_named_for_what_it_is() -> None:
    assert HashingEmbedder().kind == "lexical"


@pytest.mark.parametrize("dimensions", [0, 15, 65_537])
def test_a_length_that_makes_no_sense_is_refused(dimensions: int) -> None:
    with pytest.raises(ConfigurationError, match=f"Hashing to {dimensions}"):
        HashingEmbedder(dimensions)
