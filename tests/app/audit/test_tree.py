"""The tree that is kept is that of the definition, however the log grew and whoever added to it."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.app.audit import tree as module
from ostler.app.audit.tree import VIEW, Entry, Tree
from ostler.kernel.errors import StaleWrite, StoreCorrupt
from ostler.kernel.merkle import Range, is_consistent, is_included, leaf_hash
from ostler.ports import Row
from tests.app.audit.stable import Stable
from tests.kernel.test_merkle import naive_root
from tests.servers import fresh_schema


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "memory":
        yield "memory:"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ostler.db"
    else:
        with fresh_schema() as schema:
            yield schema


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(module, "WIDTH", 4)
    monkeypatch.setattr(module, "HEIGHT", 2)


async def leaves_of(stable, tenant="acme"):
    """The log as it is, naively."""
    records = await stable.store.tail(limit=1_000_000)
    return [record for record in records if record.stream.tenant == tenant]


async def check_tree(stable, tenant="acme"):
    """Everything that the tree can be asked agrees with the log."""
    records = await leaves_of(stable, tenant)
    hashes, tree, size = [leaf_hash(record.hash) for record in records], stable.tree, len(records)
    frontier = await tree.frontier(tenant)
    assert (frontier.size, frontier.root()) == (size, naive_root(hashes))
    entries = [entry async for entry in tree.entries(tenant, Range(0, size))]
    assert entries == [Entry(record.position, record.hash) for record in records]
    for index, record in enumerate(records):
        assert await tree.index_of(tenant, record.position, size) == index
        assert await tree.entry(tenant, index) == entries[index]
        proof = await tree.inclusion(tenant, index, size)
        assert is_included(hashes[index], index, size, proof, frontier.root())
        old = await tree.root(tenant, index)
        assert old == naive_root(hashes[:index])
        assert is_consistent(index, old, size, frontier.root(), await tree.consistency(tenant, index, size))
    assert await tree.index_of(tenant, records[-1].position + 1, size) == size
    assert await tree.index_of(tenant, 0, size) == 0


async def test_the_tree_of_each_tenant_is_that_of_its_events_in_order_of_position(url):
    stable = await Stable.open(url)
    for name, tenant in [("ses_1", "acme"), ("ses_2", "rival"), ("ses_1", "acme"), ("wrk_1", "acme")] * 3:
        await stable.write(name, 2, tenant)
    assert await stable.tree.catch_up() == await stable.store.head()
    await check_tree(stable)
    await check_tree(stable, "rival")
    assert await stable.tree.root("nobody", 0) == naive_root([])
    await stable.parts.close()


@given(st.lists(st.integers(1, 9), max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_it_does_not_matter_in_which_portions_a_tree_grows(portions, chance):
    assert asyncio.run(grown_in(portions, chance)) > sum(portions)


async def grown_in(portions, chance: random.Random):
    stable = await Stable.open("memory:")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WIDTH", 4), ("HEIGHT", 2), ("PAGE", 3), ("PAGES_MAX", 2)):
            patch.setattr(module, name, value)
        for portion in [1, *portions]:
            await stable.write(f"ses_{chance.randint(1, 3)}", portion)
            if chance.random() < 0.3:
                stable.tree = Tree(stable.store, stable.parts.views)
            if chance.random() < 0.7:
                await stable.tree.catch_up()
        await stable.tree.catch_up()
        await check_tree(stable)
        return (await stable.tree.frontier("acme")).size


async def test_two_who_add_to_a_tree_at_once_add_each_event_once(url, small_tiles, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 3)
    monkeypatch.setattr(module, "PAGES_MAX", 1)
    stable = await Stable.open(url)
    others = [Tree(stable.store, stable.parts.views) for _ in range(3)]
    for _ in range(3):
        await stable.write("ses_1", 7)
        await asyncio.gather(*[tree.catch_up() for tree in [stable.tree, *others]])
    await check_tree(stable)
    await stable.parts.close()


async def test_a_store_that_fails_leaves_a_tree_that_goes_on(small_tiles, monkeypatch):
    stable = await Stable.open("memory:")
    await stable.write("ses_1", 5)
    await stable.tree.catch_up()
    await stable.write("ses_1", 5)
    advance = stable.parts.views.advance

    async def refuse(*arguments, **options):
        monkeypatch.setattr(stable.parts.views, "advance", advance)
        raise StaleWrite

    monkeypatch.setattr(stable.parts.views, "advance", refuse)
    await stable.tree.catch_up()
    await check_tree(stable)


async def test_what_is_removed_or_erased_keeps_its_leaf(url):
    stable = await Stable.open(url)
    await stable.write("ses_1", 3)
    await stable.write("ses_2", 3)
    await stable.tree.catch_up()
    root = await stable.tree.root("acme", 6)
    await stable.remove("ses_1")
    await stable.erase("ses_2")
    await stable.tree.catch_up()
    assert await stable.tree.root("acme", 6) == root
    assert (await stable.tree.frontier("acme")).size == 8  # and the notes of it
    await stable.parts.close()


@pytest.mark.parametrize("body", [None, b"", b"short"])
async def test_a_damaged_tile_is_noticed(body, small_tiles):
    stable = await Stable.open("memory:")
    await stable.write("ses_1", 9)
    position = await stable.tree.catch_up()
    for key in ("0/000000000000", "1/000000000000"):
        await stable.parts.views.advance(VIEW, after=position, position=position, rows=[Row("acme", key, body)])
    tree = Tree(stable.store, stable.parts.views)
    with pytest.raises(StoreCorrupt, match="damaged"):
        await tree.root("acme", 4)
    with pytest.raises(StoreCorrupt, match="damaged"):
        await tree.root("acme", 2)
