"""What is nearest is found whatever the vectors are like, however many there are and however little memory there is."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ostler.adapters.index.sqlite import SqliteIndex
from ostler.adapters.index.vectors import SCANNED_MAX, Matrix, Shelf
from ostler.kernel.errors import ConfigurationError
from ostler.ports.memory import Filter
from ostler.testing.contracts.memory_histories import ANN, ids, remembered, tell

COUNT, DIMENSIONS = SCANNED_MAX + 10_000, 128


def clustered(random: np.random.Generator) -> np.ndarray:
    """As texts lie: in groups, in few of all directions."""
    centres, space = random.normal(size=(100, 32)), random.normal(size=(32, DIMENSIONS))
    near = centres[random.integers(0, 100, COUNT)] + 0.6 * random.normal(size=(COUNT, 32))
    return near @ space + 0.3 * random.normal(size=(COUNT, DIMENSIONS))


def isotropic(random: np.random.Generator) -> np.ndarray:
    """In all directions alike: nothing is near anything."""
    return random.normal(size=(COUNT, DIMENSIONS))


def shifted(random: np.random.Generator) -> np.ndarray:
    """All of them far to one side."""
    return random.normal(size=(COUNT, DIMENSIONS)) + 3 * random.normal(size=DIMENSIONS)


def unit(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return found


@pytest.mark.parametrize("kind", [clustered, isotropic, shifted])
@pytest.mark.parametrize("seed", [1, 2])
def test_sifting_misses_next_to_nothing(kind, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors, matrix = unit(kind(random)), Matrix(DIMENSIONS)
    for start in range(0, COUNT, 5_000):
        matrix.put(range(start, start + 5_000), [vectors[start : start + 5_000].tobytes()])
    hits = 0
    for _ in range(30):
        query = unit(vectors[random.integers(COUNT)] + vectors[random.integers(COUNT)] / 2)
        exact = set(np.argsort(-(vectors @ query))[:10].tolist())
        hits += len(exact & {row for row, _ in matrix.nearest(query.tolist(), 10)})
    assert hits / 300 >= 0.99, f"seed {seed}"


def test_scores_are_exact_and_equals_come_the_newest_first() -> None:
    matrix = Matrix(2)
    matrix.put([7, 9, 8], [np.array([1, 0, 0, 1, 0, 1], np.float32).tobytes()])
    found = matrix.nearest([0.6, 0.8], 3)
    assert [row for row, _ in found] == [9, 8, 7]
    assert [score for _, score in found] == pytest.approx([0.8, 0.8, 0.6])
    assert [row for row, _ in matrix.nearest([0.6, 0.8], 1)] in ([9], [8])


def test_a_row_has_one_vector() -> None:
    matrix = Matrix(2)
    matrix.put([1, 2], [np.array([1, 0, 0, 1], np.float32).tobytes()])
    matrix.put([1], [np.array([-1, 0], np.float32).tobytes()])
    assert matrix.nearest([1.0, 0.0], 9) == [(2, 0.0), (1, -1.0)]


def test_many_more_vectors_than_before_are_found_as_well() -> None:
    random = np.random.default_rng(5)
    vectors, matrix = unit(clustered(random)), Matrix(DIMENSIONS)
    for start in (0, *range(SCANNED_MAX + 1, COUNT, 1_000)):
        end = SCANNED_MAX + 1 if start == 0 else min(COUNT, start + 1_000)
        matrix.put(range(start, end), [vectors[start:end].tobytes()])
        ((row, score),) = matrix.nearest(vectors[end - 1].tolist(), 1)
        assert row == end - 1
        assert score == pytest.approx(1.0, abs=1e-5)


def test_what_was_used_longest_ago_is_given_up_first() -> None:
    shelf, matrices = Shelf(bytes_max=2_500), {}
    for name in "abc":
        matrices[name] = Matrix(64)
        matrices[name].put([1, 2, 3, 4], [bytes(4 * 4 * 64)])
        if name == "c":
            assert shelf.get("a") is not None
        shelf.put(name, matrices[name], 0)
    assert [name for name in "abc" if shelf.get(name)] == ["a", "c"]


async def test_what_another_handle_erased_is_held_in_memory_no_longer_than_to_the_next_question(tmp_path: Path) -> None:
    one, two = await SqliteIndex.open(tmp_path / "index"), await SqliteIndex.open(tmp_path / "index")
    await tell(one, ANN, remembered("mem_1"), remembered("mem_2"))
    await one.embed("f", [(ANN, "mem_1", [1.0, 0.0]), (ANN, "mem_2", [0.0, 1.0])])
    assert len(await two.vectors([ANN], "f", [1.0, 0.0])) == 2
    await one.erase(ANN, ["mem_1"])
    await two.vectors([ANN], "f", [1.0, 0.0])
    shelf = two._vectors._shelf
    assert shelf is not None
    assert [len(matrix) for matrix, _ in shelf._matrices.values()] == [1]
    await one.close()
    await two.close()


async def test_only_what_is_seldom_is_found_in_a_crowd(tmp_path: Path) -> None:
    index = await SqliteIndex.open(tmp_path / "index")
    await tell(index, ANN, *(remembered(f"mem_{n}", kind="fact" if n % 100 else "file") for n in range(2_000)))
    vectors = [(ANN, f"mem_{n}", [1.0, n / 2_000]) for n in range(2_000)]
    await index.embed("f", vectors)
    found = await index.vectors([ANN], "f", [0.0, 1.0], Filter(kinds=("file",)), limit=5)
    assert ids(found) == ["mem_1900", "mem_1800", "mem_1700", "mem_1600", "mem_1500"]
    await index.close()


async def test_without_numpy_only_vectors_are_missing_and_it_is_said_what_to_install(monkeypatch) -> None:
    index = await SqliteIndex.open(":memory:")
    await tell(index, ANN, remembered("mem_1"))
    await index.embed("f", [(ANN, "mem_1", [1.0])])
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.delitem(sys.modules, "ostler.adapters.index.vectors")
    assert ids(await index.words([ANN], ["hay"])) == ["mem_1"]
    with pytest.raises(ConfigurationError, match="numpy") as caught:
        await index.vectors([ANN], "f", [1.0])
    assert "ostler[memory]" in str(caught.value.hint)
    await index.close()
