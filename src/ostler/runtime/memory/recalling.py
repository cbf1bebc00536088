"""Finds what bears on a question: by words, by vectors, along relations and in time, and puts it into one order."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from ostler.domain.memory.memory import normal
from ostler.domain.memory.ranking import (
    Lanes,
    Weights,
    blended,
    frequency,
    hopeful,
    recency,
    score,
    shares,
    spread,
    with_named,
    with_neighbours,
    with_onward,
    within,
)
from ostler.domain.memory.recollection import Recollection, Recollections
from ostler.domain.memory.scope import Scope
from ostler.domain.memory.settings import Keeping
from ostler.domain.memory.strength import strength
from ostler.domain.memory.terms import names, terms
from ostler.domain.tokens import counts_of, tokens
from ostler.kernel.errors import ConfigurationError, DimensionMismatch, UsageError
from ostler.kernel.event import timestamp, timestamp_if_known
from ostler.ports.memory import EVERYTHING, Entry, Filter, MemoryIndex
from ostler.runtime.memory.embedding import Embedding

FOUND_MIN = 50
"""What each way of finding brings at most, and four times as many as are wanted where that is more."""
CHOSEN_MAX = 500
"""Of all that was found, so many of the most relevant are judged at most."""
BESIDE_MAX = 20
"""Best hits of words whose neighbours in time are looked at."""
STARTS_MAX = 16
"""Entities named in a question from which relations are followed; of its best hits, as many again."""
HITS_FOLLOWED = 5
LEADERS_MAX = 5
"""Facts from which relations are followed onward: the most relevant of those named and of the best hits."""
DEPTH = 2
"""Relations that lie between a fact and what was asked for, at most."""
NEWEST_MAX = 500
"""Where nothing is asked for, the strongest of so many new ones are told."""
CONTRADICTING_MAX = 4
"""Memories that are told beside one that they contradict."""
ASIDE_SHARE = 0.5
"""What a fact is given that relates something else to where another leads, beside one that says more about it."""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """A memory that was found, and why. All lanes are in [0, 1].

    They are `relevance`, `recency`, `importance` and `frequency`, of which the score is made; and where it was found
    so, what made it relevant: its share of the best score of `words`, what its `neighbours` in time gave it of theirs,
    the similarity of its `vector`, and in the `graph` 1 for a fact about something that the question names, or the
    share that it is given by a fact that leads to it. One that `is_neighbour` was found only because of those beside
    it.
    """

    entry: Entry
    score: float
    lanes: dict[str, float]
    is_neighbour: bool = False


class Recall(msgspec.Struct, frozen=True, gc=False):
    """What was found, best first. So many were `left_out` because they were too long; `missing` could not be asked."""

    found: tuple[Ranked, ...] = ()
    left_out: int = 0
    missing: tuple[str, ...] = ()


class Question(NamedTuple):
    """What is asked of the memories of these scopes, at this moment."""

    scopes: Sequence[Scope]
    text: str
    which: Filter
    limit: int
    tokens: int | None
    now_us: int

    @property
    def found_max(self) -> int:
        """How many each way of finding is asked for."""
        return max(FOUND_MIN, 4 * self.limit)


class _Ways(msgspec.Struct):
    """What each way has found, by id.

    Of the graph: the entities that the question names (`starts`), the facts about them (`named`), those that are among
    the best `hits`, and of all facts that were met what they relate.
    """

    own: dict[str, float] = {}
    given: dict[str, float] = {}
    words: dict[str, float] = {}
    vector: dict[str, float] = {}
    starts: set[str] = set()
    named: set[str] = set()
    hits: list[str] = []
    relations: dict[str, tuple[str, str]] = {}


class Recaller:
    """Asks one index, which has everything by then."""

    def __init__(self, index: MemoryIndex, keeping: Keeping, embedding: Embedding | None, weights: Weights) -> None:
        self.weights = weights
        self._index = index
        self._keeping = keeping
        self._embedding = embedding

    async def recall(self, question: Question) -> Recall:
        """What these scopes hold that bears on the question. Without anything to look for, the strongest of the newest.

        The same is found in the same order whenever the index holds the same, at the same time.
        """
        missing: list[str] = []
        wanted = terms(question.text)
        vector = await self._vector(question.text, missing)
        if not wanted and vector is None:
            ranked = await self._strongest(question)
        else:
            ways = await self._ways(question, wanted, vector, missing)
            ranked = await self._ranked(question, ways)
        ranked = await self._with_contradictions(question, ranked)
        sizes = [0 if question.tokens is None else tokens_of(one.entry) for one in ranked]
        kept, left_out = within(sizes, tokens=question.tokens, limit=question.limit)
        return Recall(tuple(ranked[number] for number in kept), left_out, tuple(missing))

    async def _vector(self, text: str, missing: list[str]) -> Sequence[float] | None:
        """The vector of the question; None if none is wanted, or none can be had."""
        embedding = self._embedding
        if embedding is None or not self._weight(embedding) or not text.strip():
            return None
        vector = await embedding.query(text)
        if vector is None:
            missing.append(f"vectors: {embedding.problem or 'the embedder refuses this text'}")
        return vector

    def _weight(self, embedding: Embedding) -> float:
        return self.weights.vector if embedding.kind == "semantic" else self.weights.lexical

    async def _ways(
        self, question: Question, wanted: Sequence[str], vector: Sequence[float] | None, missing: list[str]
    ) -> _Ways:
        scopes, which, ways = question.scopes, question.which, _Ways()
        if wanted:
            hits = await self._index.words(scopes, wanted, which, limit=question.found_max)
            ways.own = {hit.id: hit.score for hit in hits}
            await self._add_neighbours(question, ways)
        if vector is not None and self._embedding is not None:
            try:
                near = await self._index.vectors(
                    scopes, self._embedding.fingerprint, vector, which, limit=question.found_max
                )
                ways.vector = {hit.id: min(max(hit.score, 0.0), 1.0) for hit in near}
            except (ConfigurationError, DimensionMismatch, UsageError) as error:
                missing.append(f"vectors: {error.message}")
        if self.weights.graph > 0:
            await self._follow_relations(question, ways)
        return ways

    async def _add_neighbours(self, question: Question, ways: _Ways) -> None:
        """Give those that happened just before and after what was found a share of its score."""
        scopes, which = question.scopes, question.which
        beside: dict[str, list[str]] = {}
        if self.weights.neighbours > 0 and which.as_of is None:
            best = sorted(ways.own, key=lambda name: (-ways.own[name], name))[:BESIDE_MAX]
            for name, entries in (await self._index.beside(scopes, best, span=1)).items():
                beside[name] = [
                    entry.memory.id for entry in entries if entry.memory.kind == "episode" and meets(entry, which)
                ]
        ways.words, ways.given = with_neighbours(ways.own, beside, share=self.weights.neighbours)

    async def _follow_relations(self, question: Question, ways: _Ways) -> None:
        """Find facts on short ways from the entities that the question names, and from those that the best hits do."""
        index, scopes, which = self._index, question.scopes, question.which
        entities = await index.entities(scopes, names(question.text), as_of=which.as_of, limit=STARTS_MAX)
        starts = [normal(entity.name) for entity in entities]
        best = sorted(ways.words, key=lambda name: (-ways.words[name], name))[:HITS_FOLLOWED]
        met: list[str] = []
        for entry in await index.get(scopes, best):
            if (relation := entry.memory.relation) is not None:
                ends = normal(relation.subject), normal(relation.object)
                ways.relations[entry.memory.id] = ends
                met += ends
        ways.starts, ways.hits = set(starts), list(ways.relations)
        for around, depth in ((starts, DEPTH), (_without(met, starts), 1)):
            if not around:
                continue
            edges = await index.neighbourhood(
                scopes,
                around[:STARTS_MAX],
                depth=depth,
                as_of=which.as_of,
                valid_at_us=which.valid_at_us,
                limit=question.found_max,
            )
            ways.relations |= {edge.id: (normal(edge.subject), normal(edge.object)) for _, edge in edges}
            if around is starts:
                ways.named = {edge.id for distance, edge in edges if distance == 1}

    def _relevance(self, ways: _Ways) -> tuple[dict[str, float], dict[str, float]]:
        """How relevant each is that was found; and what made the facts so that relations lead to."""
        weights = self.weights
        vector_weight = self._weight(self._embedding) if self._embedding is not None else 0.0
        text = blended(((weights.words, shares(ways.words)), (vector_weight, spread(ways.vector))))
        relevance = with_named(text, ways.named, graph=weights.graph)
        leaders = sorted({*ways.named, *ways.hits}, key=lambda name: (-relevance.get(name, 0.0), name))[:LEADERS_MAX]
        relevance, given = with_onward(relevance, _ways_onward(ways, leaders, weights.onward))
        return relevance, given | dict.fromkeys(ways.named, 1.0)

    async def _ranked(self, question: Question, ways: _Ways) -> list[Ranked]:
        """The most relevant of what was found, in the order of their scores."""
        relevance, graph = self._relevance(ways)
        relevance = await self._meant(question, ways, relevance)
        # Where there may be too little room for some, others behind them must be there to be told.
        wanted = question.limit if question.tokens is None else 2 * question.limit
        chosen = hopeful(relevance, wanted, self.weights)[:CHOSEN_MAX]
        parts = (
            ("words", shares(ways.own)),
            ("neighbours", _given(ways)),
            ("vector", ways.vector),
            ("graph", graph),
        )
        ranked = []
        for entry in await self._index.get(question.scopes, chosen):
            if not meets(entry, question.which):
                continue
            name = entry.memory.id
            found_by = {way: scores[name] for way, scores in parts if name in scores}
            ranked.append(self._judge(entry, relevance[name], found_by, question))
        return _in_order(ranked)

    async def _meant(self, question: Question, ways: _Ways, relevance: dict[str, float]) -> dict[str, float]:
        """Without what only relations led to and the filter leaves out, so that it takes no room from the others."""
        unsure = relevance.keys() & ways.relations.keys() - ways.words.keys() - ways.vector.keys()
        if not unsure or question.which == EVERYTHING:
            return relevance
        entries = await self._index.get(question.scopes, sorted(unsure))
        unsure -= {entry.memory.id for entry in entries if meets(entry, question.which)}
        return {name: value for name, value in relevance.items() if name not in unsure}

    def _judge(self, entry: Entry, relevance: float, found_by: dict[str, float], question: Question) -> Ranked:
        half_life_us = self._keeping.half_life_us
        lanes = Lanes(
            relevance=relevance,
            recency=recency(entry.memory.happened_us, now_us=question.now_us, half_life_us=half_life_us),
            importance=entry.memory.importance,
            # How often something had been recalled then, nobody knows any more.
            frequency=frequency(entry.recalls) if question.which.as_of is None else 0.0,
        )
        is_neighbour = found_by.keys() == {"neighbours"}
        return Ranked(entry, score(lanes, self.weights), {**msgspec.structs.asdict(lanes), **found_by}, is_neighbour)

    async def _strongest(self, question: Question) -> list[Ranked]:
        """The newest by their strength. What was asked for has no words to look for, so nothing is relevant to it."""
        found = []
        for entry in await self._index.page(question.scopes, question.which, limit=NEWEST_MAX):
            judged = self._judge(entry, 0.0, {}, question)
            age_us = question.now_us - entry.memory.happened_us
            strong = strength(entry.memory.importance, age_us=age_us, half_life_us=self._keeping.half_life_us)
            found.append(msgspec.structs.replace(judged, score=strong))
        return _in_order(found)

    async def _meets(self, entry: Entry, which: Filter) -> bool:
        """The same as `meets`, but for what was not in force for a while: as of then the index knows."""
        if which.as_of is None or not meets(entry, which):
            return meets(entry, which)
        found = await self._index.page([entry.scope], which, before=entry.position + 1, limit=1)
        return [one.position for one in found] == [entry.position]

    async def _with_contradictions(self, question: Question, ranked: list[Ranked]) -> list[Ranked]:
        """What the best contradict stands beside them, however badly it fits the question itself."""
        limit = question.limit
        there = {one.entry.memory.id for one in ranked[:limit]}
        wanted = [name for one in ranked[:limit] for name in one.entry.contradicts[:CONTRADICTING_MAX]]
        if there.issuperset(wanted):
            return ranked
        others = {
            entry.memory.id: entry
            for entry in await self._index.get(question.scopes, list(dict.fromkeys(wanted)))
            if entry.memory.id not in there and await self._meets(entry, question.which)
        }
        moved = set(others)
        together: list[Ranked] = []
        for number, one in enumerate(ranked):
            if one.entry.memory.id in moved:
                continue  # it is told further up
            together.append(one)
            for name in one.entry.contradicts[:CONTRADICTING_MAX] if number < limit else ():
                if (other := others.pop(name, None)) is not None:
                    together.append(self._judge(other, one.lanes["relevance"], {}, question))
        return together


def recollections(recall: Recall) -> Recollections:
    """What was recalled, as it is told."""
    told = tuple(recollection(one.entry, one.score) for one in recall.found)
    return Recollections(told, recall.left_out, recall.missing)


def recollection(entry: Entry, score: float = 0.0) -> Recollection:
    """A memory, as it is told."""
    memory = entry.memory
    return Recollection(
        id=memory.id,
        kind=memory.kind,
        text=memory.text,
        writer=memory.source.writer,
        at=timestamp(memory.happened_us),
        labels=memory.labels,
        score=round(score, 4),
        tags=memory.tags,
        key=memory.key,
        contradicts=entry.contradicts,
        valid_from=timestamp_if_known(memory.valid_from_us),
        valid_to=timestamp_if_known(memory.valid_to_us),
    )


def tokens_of(entry: Entry) -> int:
    """How many tokens it takes to tell this memory, by an estimate that fits all models."""
    return tokens(counts_of(msgspec.json.encode(recollection(entry)).decode()), "other")


def meets(entry: Entry, which: Filter) -> bool:
    """Whether a filter means this memory. What was in force for a while, and is again, counts as in force since it was
    remembered.
    """
    memory = entry.memory
    tags = frozenset(memory.tags)
    return (
        _is_in_force(entry, which)
        and (not which.kinds or memory.kind in which.kinds)
        and tags.issuperset(which.all_of)
        and (not which.any_of or not tags.isdisjoint(which.any_of))
        and tags.isdisjoint(which.none_of)
        and memory.key.startswith(which.key_prefix)
        and (not which.session or memory.source.session == which.session)
        and _is_within(which.valid_at_us, memory.valid_from_us, memory.valid_to_us)
        and _is_within(memory.happened_us, which.from_us, which.to_us)
    )


def _is_in_force(entry: Entry, which: Filter) -> bool:
    if which.as_of is not None and entry.position > which.as_of:
        return False
    is_open = entry.until is None or (which.as_of is not None and entry.until > which.as_of)
    return is_open or which.is_closed_too


def _is_within(moment: int | None, begin: int | None, end: int | None) -> bool:
    return moment is None or ((begin is None or begin <= moment) and (end is None or moment < end))


def _in_order(ranked: Iterable[Ranked]) -> list[Ranked]:
    """The greater score first; of equals what was remembered later, and then the lesser id."""
    return sorted(ranked, key=lambda one: (-one.score, -one.entry.position, one.entry.memory.id))


def _given(ways: _Ways) -> dict[str, float]:
    """What neighbours gave, as shares of the best score of words."""
    greatest = max(ways.words.values(), default=0.0)
    return {name: given / greatest for name, given in ways.given.items() if greatest > 0 and given > 0}


def _ways_onward(ways: _Ways, leaders: Iterable[str], share: float) -> dict[str, dict[str, float]]:
    """To which other facts these lead, and with what share: to those about the other end of theirs, and with less to
    those that relate something else to it.
    """
    about: dict[str, list[str]] = {}
    aside: dict[str, list[str]] = {}
    for name, (subject, object_) in ways.relations.items():
        if name not in ways.named:
            about.setdefault(subject, []).append(name)
            aside.setdefault(object_, []).append(name)
    found = {}
    for leader in leaders:
        ends = [end for end in ways.relations[leader] if end not in ways.starts]
        others = {name: share * ASIDE_SHARE for end in ends for name in aside.get(end, ()) if name != leader}
        others |= {name: share for end in ends for name in about.get(end, ()) if name != leader}
        found[leader] = others
    return found


def _without(names: Iterable[str], others: Iterable[str]) -> list[str]:
    left_out = set(others)
    return [name for name in dict.fromkeys(names) if name not in left_out]
