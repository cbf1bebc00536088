"""Nobody ever sees or changes what is remembered for others, whatever is asked and whoever asks."""

import random
from collections.abc import Sequence

import pytest

from ostler.domain.memory.events import EntityDescribed
from ostler.domain.memory.memory import Kind, Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.writing import Wish
from ostler.kernel.errors import NotFound
from ostler.ports.memory import Filter
from ostler.runtime.memory.memories import Memories
from tests.runtime.memory.remembering import memories_in

EVER = Filter(is_closed_too=True)
NAMES = ("Ann", "Bea", "Cem")
"""The same in all scopes: only the scope tells whose they are."""


def scopes() -> list[Scope]:
    """Scopes of all levels, of which some differ in one part only."""
    found = []
    for tenant in ("acme", "rival"):
        found.append(Scope(tenant))
        for agent in ("vet", "smith"):
            found.append(Scope(tenant, agent))
            for user in ("ann", "bea"):
                found += [Scope(tenant, agent, user), Scope(tenant, agent, user, "ses_1")]
    return found


async def fill(memories: Memories, all_: Sequence[Scope], chance: random.Random) -> dict[Scope, list[str]]:
    """Something of every kind for everybody, in the same words; the ids, by scope."""
    ids: dict[Scope, list[str]] = {}
    for number in range(len(all_) * 3):
        scope, name, other = all_[number % len(all_)], *chance.sample(NAMES, 2)
        source = Source("agent:vet", f"ses_{chance.randrange(3)}/1.1", ("tool.mail",))
        kind: Kind = chance.choice(("episode", "fact", "file"))
        relation = Relation(name, "knows", other) if kind == "fact" else None
        key = "/memories/a" if kind == "file" else chance.choice(("", "key"))
        text = f"{name} saw {other} on day {chance.randrange(5)}"
        wish = Wish(kind, text, source, tags=("day",), key=key, relation=relation)
        ids.setdefault(scope, []).append((await memories.remember(scope, wish, key=f"{number}")).id)
        await memories.describe(scope, EntityDescribed(name, str(scope), source))
    return ids


@pytest.mark.parametrize("seed", range(4))
async def test_no_question_brings_what_belongs_to_others(seed: int) -> None:
    chance, all_ = random.Random(seed), scopes()
    async with memories_in() as memories:
        ids = await fill(memories, all_, chance)
        every = [name for some in ids.values() for name in some]
        await memories.index.embed("f", [(scope, name, [1.0, 0.0]) for scope, some in ids.items() for name in some])
        for reader in (*all_, Scope("acme", "vet", "ann", "ses_2"), Scope("acme", "vet", "nobody")):
            seen, index = set(reader.visible), memories.index
            filled = {scope for scope in seen if scope in ids}
            mine = {name for scope in seen for name in ids.get(scope, [])}
            recall = await memories.recall(reader, "Ann saw Bea on day 3", limit=100, call=f"ses_9/{reader}")
            assert {one.entry.scope for one in recall.found} == filled, seed
            entries = [
                *await index.get(reader.visible, every),
                *await index.page(reader.visible, EVER, limit=1000),
                *await index.same(reader.visible, [recall.found[0].entry.memory.digest]),
                *await index.unembedded(reader.visible, "g", limit=1000),
                *[one for some in (await index.beside(reader.visible, every, span=5)).values() for one in some],
            ]
            assert {entry.scope for entry in entries} == filled, seed
            for hits in (
                await index.words(reader.visible, ["ann", "saw", "day"], EVER, limit=1000),
                await index.vectors(reader.visible, "f", [1.0, 0.0], EVER, limit=1000),
            ):
                assert {hit.scope for hit in hits} == filled, seed
            edges = [
                *await index.neighbourhood(reader.visible, NAMES, depth=3),
                *await index.edges(reader.visible),
            ]
            assert {edge.id for _, edge in edges} <= mine, seed
            kinds = {entity.kind for entity in await index.entities(reader.visible)}
            assert kinds <= {"", *map(str, seen)}, seed


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_changed_by_those_whose_it_is_not(seed: int) -> None:
    chance, all_ = random.Random(seed), scopes()
    async with memories_in() as memories:
        ids = await fill(memories, all_, chance)
        before = {scope: await memories.index.page([scope], EVER, limit=100) for scope in all_}
        for scope in all_:
            others = [name for other, some in ids.items() if other != scope for name in some]
            assert await memories.forget(scope, others, by="somebody") == []
            assert await memories.restore(scope, others, by="somebody") == []
            with pytest.raises(NotFound):
                await memories.pin(scope, others[0], by="somebody")
            await memories.index.erase(scope, others)
        assert {scope: await memories.index.page([scope], EVER, limit=100) for scope in all_} == before
        await memories.roll_back("acme", source="tool.*", by="keeper", because="a test")
        kept = {scope: await memories.index.page([scope], limit=100) for scope in all_}
        assert not any(found for scope, found in kept.items() if scope.tenant == "acme")
        rivals = {scope: some for scope, some in before.items() if scope.tenant == "rival"}
        assert {scope: await memories.index.page([scope], EVER, limit=100) for scope in rivals} == rivals
        await memories.rebuild("rival")
        assert {scope: await memories.index.page([scope], EVER, limit=100) for scope in rivals} == rivals
        await memories.index.clear([Scope("acme", "vet", "ann")])
        assert {scope: await memories.index.page([scope], EVER, limit=100) for scope in rivals} == rivals
