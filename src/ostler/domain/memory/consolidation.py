"""What becomes of memories in the long run: the same told twice becomes one, what is told again and again becomes a
fact, and what nobody ever needed goes.

A plan is made of what is remembered, and each of its steps by itself can be decided again, done, and undone. Nothing
is made here that was not said: what is merged or promoted keeps the words of one of those that it is made of, and has
the labels of all of them.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Literal

import msgspec

from ostler.domain.memory.check import TAGS_MAX
from ostler.domain.memory.events import MemoryConsolidated, MemoryEvent, MemoryRemembered, MemoryRetracted
from ostler.domain.memory.memory import Entry, Kind, Memory, Relation, Source, folded, memory_id, normal
from ostler.domain.memory.settings import Consolidating
from ostler.domain.memory.strength import strength
from ostler.domain.memory.terms import STOP_WORDS
from ostler.domain.provenance import UNTRUSTED

WRITER = "consolidation"
"""Who writes what is made here, and retracts what goes."""

OF_MAX = 100
"""From how many memories one is made at most; of more, those that happened last."""

_WORD = re.compile(r"\w+")
_SIGN = re.compile(r"""\w+|[^\w\s.,;:!'"`()\[\]…“”‘’]""")
"""A word, or a sign that may turn what is said around: `-5`, `a < b`, `C#`, a thumb up or down."""
_DIGIT = re.compile(r"\d")
_FILLERS = frozenset(("a", "an", "and", "also", "just", "please", "really", "so", "that", "the", "very"))
"""Words without which a statement says the same."""
_NEGATIONS = frozenset(("no", "nor", "not", "never", "none", "nobody", "nothing", "without", "cannot", "t"))
"""Words that turn a statement around; `t` is what is left of `isn't` between two words."""

How = Literal["merged", "promoted", "decayed"]

Statement = tuple[object, ...]
"""What is said: a relation, or words."""


class Step(msgspec.Struct, frozen=True):
    """What is to become of memories of one scope: those `of` which `into` is made, or which go if that is None."""

    how: How
    of: tuple[str, ...]
    into: Memory | None = None


def plan(
    entries: Iterable[Entry],
    rules: Consolidating,
    *,
    now_us: int,
    half_life_us: int,
    near: Iterable[tuple[str, str]] = (),
    known: Collection[str] = (),
) -> list[Step]:
    """What should become of these memories of one scope, in an order that does not depend on theirs.

    `near` are pairs whose vectors are near. What would become one of the ids that are `known` was made before, and is
    not made again, whatever has become of it since.
    """
    standing = sorted((entry for entry in entries if entry.until is None), key=_newest_first)
    steps = [*_promotions(standing, rules), *_merges(standing, rules, near)]
    steps = [step for step in steps if step.into is None or step.into.id not in known]
    taken = {one for step in steps for one in step.of}
    gone = [
        entry.memory.id
        for entry in standing
        if entry.memory.id not in taken and is_gone(entry, rules, now_us=now_us, half_life_us=half_life_us)
    ]
    steps += [Step("decayed", tuple(gone[start : start + OF_MAX])) for start in range(0, len(gone), OF_MAX)]
    return steps


def again(
    step: Step, entries: Iterable[Entry], rules: Consolidating, *, now_us: int, half_life_us: int
) -> tuple[MemoryEvent, ...]:
    """What the step comes to as things stand now; nothing if what it was planned for is not so any more.

    `entries` are those that the step is of.
    """
    standing = {entry.memory.id: entry for entry in entries if entry.until is None}
    if step.into is None:
        going = [
            name
            for name in step.of
            if name in standing and is_gone(standing[name], rules, now_us=now_us, half_life_us=half_life_us)
        ]
        because = f"weaker than {rules.strength_min:g}, and never recalled"
        return (MemoryRetracted(tuple(going), "decayed", WRITER, because),) if going else ()
    if any(name not in standing for name in step.of):
        return ()
    if step.how == "merged" and not all(_may_merge(standing[name]) for name in step.of):
        return ()
    how: Literal["merged", "promoted"] = "merged" if step.how == "merged" else "promoted"
    return MemoryRemembered(step.into), MemoryConsolidated(step.of, step.into.id, how)


def may_be_worded(step: Step, memories: Sequence[Memory]) -> bool:
    """Whether somebody may put what is merged into words of their own: facts that say the same in other words.

    Untrusted text is for nobody to read here: who puts it into words might do what it says.
    """
    if step.how != "merged" or any(memory.kind != "fact" or _is_untrusted(memory) for memory in memories):
        return False
    return len({_said(memory.text) for memory in memories}) > 1


def worded(step: Step, memories: Sequence[Memory], text: str, *, session: str) -> Step:
    """The step with these words, which a session has found; as it was if they cannot be right.

    They cannot if there is a number, a name or a negation in them that none of the memories has, or lacks one that all
    have, or they are longer than all of these together.
    """
    into, text = step.into, text.strip()
    marks = [set(marks_of(memory.text)) for memory in memories]
    found = set(marks_of(text))
    is_right = found <= set().union(*marks) and found >= set.intersection(*marks)
    if into is None or not is_right or not 0 < len(text) <= sum(len(memory.text) for memory in memories):
        return step
    source = msgspec.structs.replace(into.source, call=f"{session}/1")
    return msgspec.structs.replace(step, into=msgspec.structs.replace(into, text=text, source=source))


def is_gone(entry: Entry, rules: Consolidating, *, now_us: int, half_life_us: int) -> bool:
    """Whether an episode has faded so far that nobody will miss it: nobody ever has been given it."""
    memory = entry.memory
    if memory.kind != "episode" or memory.is_pinned or memory.source.of or entry.recalls:
        return False
    left = strength(memory.importance, age_us=now_us - memory.happened_us, half_life_us=half_life_us)
    return left < rules.strength_min


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text and the signs that say something, in the form in which they are compared."""
    return tuple(_SIGN.findall(folded(text)))


def marks_of(text: str) -> tuple[str, ...]:
    """What two texts must share to mean the same, however near their vectors: numbers, names, negations, in order.

    Names are words with a capital, but for those that every text has.
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text))
    return tuple(
        word.casefold()
        for word in words
        if _DIGIT.search(word)
        or word.casefold() in _NEGATIONS
        or (word[0].isupper() and word.casefold() not in STOP_WORDS)
    )


def alike(one: str, other: str) -> float:
    """To what share two texts have the same words: Jaccard's index, in [0, 1]. In what order is for `_said` to see."""
    ours, theirs = set(words_of(one)), set(words_of(other))
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0


def _newest_first(entry: Entry) -> tuple[int, int, str]:
    return -entry.memory.happened_us, -entry.position, entry.memory.id


# Merging


def _may_merge(entry: Entry) -> bool:
    """Files are their owners' to change, what is pinned stays, and of a contradiction nobody knows what is true."""
    return entry.memory.kind != "file" and not entry.memory.is_pinned and not entry.contradicts


def _merges(entries: Sequence[Entry], rules: Consolidating, near: Iterable[tuple[str, str]]) -> list[Step]:
    """Each memory, the newest first, with those that are alike to it and not merged with a newer one."""
    made_of = {name for entry in entries for name in entry.memory.source.of}
    groups: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        if _may_merge(entry) and entry.memory.id not in made_of:
            groups[_like(entry.memory)].append(entry)
    beside: dict[str, set[str]] = defaultdict(set)
    for one, other in near:
        beside[one].add(other)
        beside[other].add(one)
    steps = []
    for group in groups.values():
        if len(group) > 1:
            steps += _merges_within(group, rules, beside)
    return steps


def _merges_within(group: Sequence[Entry], rules: Consolidating, near: Mapping[str, set[str]]) -> list[Step]:
    left = {entry.memory.id: entry for entry in group}
    saying: dict[tuple[str, ...], dict[str, Entry]] = defaultdict(dict)
    for name, entry in left.items():
        saying[_said(entry.memory.text)][name] = entry
    steps = []
    for entry in group:
        if entry.memory.id not in left:
            continue
        text, same = entry.memory.text, saying[_said(entry.memory.text)]
        found = {name: other for name, other in same.items() if alike(text, other.memory.text) >= rules.alike}
        meant = [left[name] for name in near.get(entry.memory.id, ()) if name in left]
        found |= {other.memory.id: other for other in meant if marks_of(other.memory.text) == marks_of(text)}
        together = sorted(found.values(), key=lambda other: (other is not entry, _newest_first(other)))[:OF_MAX]
        if len(together) > 1:
            for other in together:
                del left[other.memory.id], saying[_said(other.memory.text)][other.memory.id]
            steps.append(Step("merged", *_made("merged", together, "", kind=entry.memory.kind)))
    return steps


def _said(text: str) -> tuple[str, ...]:
    """The words that near-duplicates have in common, in their order."""
    return tuple(word for word in words_of(text) if word not in _FILLERS)


def _like(memory: Memory) -> tuple[object, ...]:
    """What memories must have in common to be merged. An episode is one of its session: of others, it is another."""
    return (
        memory.kind,
        memory.key,
        _relation(memory.relation),
        _is_untrusted(memory),
        memory.valid_from_us,
        memory.valid_to_us,
        memory.source.session if memory.kind == "episode" else "",
    )


# Promoting


def _promotions(entries: Sequence[Entry], rules: Consolidating) -> list[Step]:
    """What episodes of enough sessions tell, and no fact does yet."""
    told: dict[tuple[Statement, bool], list[Entry]] = defaultdict(list)
    facts: set[tuple[Statement, bool]] = set()
    for entry in entries:
        said = _statement(entry.memory)
        if entry.memory.kind == "fact":
            facts.add((said, _is_untrusted(entry.memory)))
        elif entry.memory.kind == "episode":
            told[said, _is_untrusted(entry.memory)].append(entry)
    steps = []
    for (said, is_untrusted), group in told.items():
        is_known = (said, False) in facts or (said, is_untrusted) in facts
        sessions = {entry.memory.source.session for entry in group} - {""}
        if not is_known and len(sessions) >= rules.sessions_min:
            name = sha256(repr((said, is_untrusted)).encode("utf-8", "surrogatepass")).hexdigest()
            steps.append(Step("promoted", *_made("promoted", group[:OF_MAX], name, kind="fact")))
    return steps


def _statement(memory: Memory) -> Statement:
    return _relation(memory.relation) or (words_of(memory.text),)


# What both make


def _made(how: How, entries: Sequence[Entry], name: str, *, kind: Kind) -> tuple[tuple[str, ...], Memory]:
    """Of what is made, and what: the first of these, the newest, with what the others add to it.

    The id depends on `name`, or if there is none on those of which it is made.
    """
    of = tuple(entry.memory.id for entry in entries)
    memories = [entry.memory for entry in entries]
    newest, sessions = memories[0], {memory.source.session for memory in memories}
    call = newest.source.call if len(sessions) == 1 else ""
    return of, msgspec.structs.replace(
        newest,
        id=memory_id(entries[0].scope, f"{WRITER} {how} {name or ' '.join(sorted(of))}"),
        kind=kind,
        source=Source(WRITER, call, sources=_union(memory.source.sources for memory in memories), of=of),
        labels=_union(memory.labels for memory in memories),
        importance=max(memory.importance for memory in memories),
        tags=tuple(dict.fromkeys(tag for memory in memories for tag in memory.tags))[:TAGS_MAX],
        key="" if how == "promoted" else newest.key,
        is_pinned=False,
    )


def _union(found: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({one for some in found for one in some}))


def _relation(relation: Relation | None) -> tuple[object, ...]:
    if relation is None:
        return ()
    return normal(relation.subject), normal(relation.name), normal(relation.object), relation.is_single


def _is_untrusted(memory: Memory) -> bool:
    return UNTRUSTED in memory.labels
