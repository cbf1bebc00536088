"""Merkle trees are those of RFC 6962: by its reference data, and by its definitions written down naively."""

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.kernel.merkle import (
    EMPTY_ROOT,
    Frontier,
    Range,
    Subtree,
    combined,
    consistency_path,
    inclusion_path,
    is_consistent,
    is_included,
    leaf_hash,
    node_hash,
    subtrees,
)

REFERENCE_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
REFERENCE_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The test data of the reference implementation of Certificate Transparency: the roots of the first n leaves."""

REFERENCE_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
REFERENCE_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word; `leaves` are hashes of leaves."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


def tree_of(leaves: list[bytes]) -> Frontier:
    tree = Frontier()
    for leaf in leaves:
        tree.add(leaf)
    return tree


def root_of(leaves: list[bytes], part: Range) -> bytes:
    return combined([naive_root(leaves[number << level : (number + 1) << level]) for level, number in subtrees(part)])


def inclusion(leaves: list[bytes], index: int) -> list[bytes]:
    return [root_of(leaves, part) for part in inclusion_path(index, len(leaves))]


def consistency(leaves: list[bytes], old: int) -> list[bytes]:
    return [root_of(leaves, part) for part in consistency_path(old, len(leaves))]


LEAVES = st.lists(st.binary(max_size=3).map(leaf_hash), min_size=1, max_size=70)


def test_the_roots_are_those_of_the_reference_data() -> None:
    for size, root in enumerate(REFERENCE_ROOTS):
        assert tree_of([leaf_hash(leaf) for leaf in REFERENCE_LEAVES[:size]]).root().hex() == root


@pytest.mark.parametrize(("index", "size"), REFERENCE_INCLUSION)
def test_the_proofs_of_inclusion_are_those_of_the_reference_data(index: int, size: int) -> None:
    leaves = [leaf_hash(leaf) for leaf in REFERENCE_LEAVES[:size]]
    proof = inclusion(leaves, index)
    assert [one.hex() for one in proof] == REFERENCE_INCLUSION[index, size]
    assert is_included(leaves[index], index, size, proof, bytes.fromhex(REFERENCE_ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), REFERENCE_CONSISTENCY)
def test_the_proofs_of_consistency_are_those_of_the_reference_data(old: int, new: int) -> None:
    leaves = [leaf_hash(leaf) for leaf in REFERENCE_LEAVES[:new]]
    proof = consistency(leaves, old)
    assert [one.hex() for one in proof] == REFERENCE_CONSISTENCY[old, new]
    roots = [bytes.fromhex(REFERENCE_ROOTS[size]) for size in (old, new)]
    assert is_consistent(old, roots[0], new, roots[1], proof)


@given(LEAVES)
def test_a_tree_that_grows_leaf_by_leaf_has_the_root_of_the_definition(leaves: list[bytes]) -> None:
    tree = tree_of(leaves)
    assert (tree.size, tree.root()) == (len(leaves), naive_root(leaves))
    assert Frontier(tree.size, tree.roots).root() == tree.root()


@given(LEAVES)
def test_adding_a_leaf_completes_the_subtrees_that_end_with_it(leaves: list[bytes]) -> None:
    tree = Frontier()
    for size, leaf in enumerate(leaves, 1):
        completed = tree.add(leaf)
        assert completed == [naive_root(leaves[size - 2**level : size]) for level in range(len(completed))]
        assert size % 2 ** len(completed) != 0


@given(LEAVES, st.data())
def test_a_tree_that_grows_by_subtrees_has_the_same_root(leaves: list[bytes], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(leaves)), max_size=5)) | {0, len(leaves)})
    tree = Frontier()
    for start, end in pairwise(cuts):
        for level, number in subtrees(Range(start, end)):
            tree.add(naive_root(leaves[number << level : (number + 1) << level]), level)
    assert tree.root() == naive_root(leaves)


@given(LEAVES, st.data())
def test_every_leaf_can_be_proved_and_no_other_in_its_place(leaves: list[bytes], data: st.DataObject) -> None:
    index, size = data.draw(st.integers(0, len(leaves) - 1)), len(leaves)
    proof, root = inclusion(leaves, index), naive_root(leaves)
    assert is_included(leaves[index], index, size, proof, root)
    assert not is_included(leaf_hash(b"another"), index, size, proof, root)
    assert not is_included(leaves[index], size, size, proof, root)
    assert not is_included(leaves[index], index, size, [*proof, root], root)
    if proof:
        assert not is_included(leaves[index], index, size, proof[:-1], root)
        wrong = data.draw(st.integers(0, len(proof) - 1))
        proof[wrong] = bytes(32)
        assert not is_included(leaves[index], index, size, proof, root)


@given(LEAVES, st.data())
def test_a_tree_that_only_grew_can_be_proved_and_one_that_was_rewritten_cannot(
    leaves: list[bytes], data: st.DataObject
) -> None:
    old, new = data.draw(st.integers(0, len(leaves))), len(leaves)
    proof, old_root, root = consistency(leaves, old), naive_root(leaves[:old]), naive_root(leaves)
    assert is_consistent(old, old_root, new, root, proof)
    assert not is_consistent(old, bytes(32), new, root, proof)
    assert not is_consistent(old, old_root, new, root, [*proof, root])
    assert not is_consistent(new + 1, root, new, root, [])
    if 0 < old < new:
        assert not is_consistent(old, old_root, new, bytes(32), proof)
        assert not is_consistent(old, old_root, new, root, [])
        rewritten = [leaf_hash(b"another"), *leaves[1:]]
        if rewritten[0] != leaves[0]:
            assert not is_consistent(old, old_root, new, naive_root(rewritten), consistency(rewritten, old))


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_range_is_made_up_of_few_subtrees_without_gap_or_overlap(one: int, other: int) -> None:
    start, end = sorted((one, other))
    place = start
    found = subtrees(Range(start, end))
    for level, number in found:
        assert number << level == place
        place += 1 << level
    assert place == end
    assert len(found) <= 80


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_path_to_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_path(index, size)


def test_a_tree_cannot_begin_with_a_larger_one() -> None:
    with pytest.raises(ValueError, match="cannot begin"):
        consistency_path(4, 3)


def test_a_frontier_is_refused_where_it_does_not_fit() -> None:
    with pytest.raises(ValueError, match="2 subtrees"):
        Frontier(3, [bytes(32)])
    tree = tree_of([leaf_hash(b"")])
    with pytest.raises(ValueError, match="level 1"):
        tree.add(bytes(32), 1)
    assert subtrees(Range(1, 4)) == [Subtree(0, 1), Subtree(1, 1)]


def test_base64_of_the_empty_root_is_what_checkpoints_of_empty_logs_say() -> None:
    assert base64.b64encode(EMPTY_ROOT) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
