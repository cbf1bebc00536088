"""A made-up year of conversations, with questions of which it is known what answers them.

The same seed makes the same year. People talk of what they have and like, of where they live and work, of what became
of something, of who says what and when; facts are stated, updated and contradicted, and lie among chit-chat and among
the same facts of other people. Each question names the memories that answer it.

What it cannot show: the words are ours, there are few ways to say a thing, and nobody is ironic, vague or wrong. It
tells ways of finding apart; it does not say how well people will be served.
"""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

import msgspec

from benchmarks.dialogue_words import (
    CHAT,
    CITIES,
    FIRST_NAMES,
    HAPPENINGS,
    LAST_NAMES,
    ORGANISATIONS,
    PROJECTS,
    RARE,
    SEASONS,
    TECHNOLOGIES,
    TOPICS,
)
from ostler.domain.memory.memory import Relation

DAY_US = 86_400_000_000
BEGIN_US = 1_700_000_000_000_000
TURN_US = 30_000_000
SESSION_TURNS = 20

Category = Literal[
    "stated", "paraphrased", "misspelt", "continued", "updated", "contradicted", "dated", "connected", "numbered"
]
CATEGORIES: tuple[Category, ...] = Category.__args__  # type: ignore[attr-defined]


class Told(msgspec.Struct, frozen=True):
    """One thing to remember: a turn of a conversation, or a fact that an agent made of one (with a `relation`)."""

    id: str
    text: str
    importance: float
    happened_us: int = 0
    relation: Relation | None = None


class Question(msgspec.Struct, frozen=True):
    """What is asked, and what answers it: of each of `evidence` one of these ids."""

    category: Category
    text: str
    evidence: tuple[frozenset[str], ...]


class Year(msgspec.Struct, frozen=True):
    """All that was said, in the order of time, and what is asked at the end."""

    told: tuple[Told, ...]
    questions: tuple[Question, ...]
    end_us: int


def year(seed: int, *, each: int = 60) -> Year:
    """The year of this seed, with `each` questions of every category."""
    return _Writer(seed, each).year()


class _Writer:
    """Makes one year. A passage is a run of turns that nothing comes between; facts are told with their turn."""

    def __init__(self, seed: int, each: int) -> None:
        self._random = Random(seed)
        self._each = each
        first, last = self._shuffled(FIRST_NAMES), self._shuffled(LAST_NAMES)
        self._people = first[:each]
        self._full = dict(zip(self._people, (f"{a} {b}" for a, b in zip(first, last, strict=False)), strict=False))
        self._organisations = self._shuffled(ORGANISATIONS)
        self._count = 0
        self._passages: list[list[Told]] = []
        self._homes: dict[str, list[list[Told]]] = {}
        self._questions: list[Question] = []

    def year(self) -> Year:
        for write in (
            self._stated,
            self._misspelt,
            self._continued,
            self._updated,
            self._contradicted,
            self._dated,
            self._connected,
            self._numbered,
        ):
            write()
        told = tuple(self._laid_out())
        return Year(told, tuple(self._questions), told[-1].happened_us + DAY_US)

    # What is said

    def _stated(self) -> None:
        """What people have and like, asked for in the same words or in others."""
        chosen = self._chosen([(person, number) for person in self._people for number in range(len(TOPICS))], 4)
        for place, (person, number) in enumerate(chosen):
            topic = TOPICS[number]
            turn = self._turn(topic.statement.format(p=person, v=self._random.choice(topic.values)))
            self._passages.append([turn])
            if place < self._each:
                self._ask("stated", topic.question, [turn], p=person)
            elif place < 2 * self._each:
                self._ask("paraphrased", topic.paraphrase, [turn], p=person)

    def _misspelt(self) -> None:
        """Rare words that whoever asks writes otherwise."""
        for person, rare in zip(self._cycled(self._people), self._shuffled(RARE)[: self._each], strict=False):
            turn = self._turn(f"{person} has ordered {rare} for the workshop.")
            self._passages.append([turn])
            self._ask("misspelt", "Who wanted {v}?", [turn], v=self._misspell(rare))

    def _continued(self) -> None:
        """What became of something is said a turn or two later, without the words of the question."""
        pairs = [(person, number) for person in self._people for number in range(len(HAPPENINGS))]
        for person, number in self._chosen(pairs, 1):
            happening = HAPPENINGS[number]
            where = {"c": self._random.choice(CITIES), "o": self._random.choice(self._organisations)}
            first = self._turn(happening.opening.format(p=person, **where))
            answer = self._turn(self._random.choice(happening.outcomes))
            replies = [self._turn(self._random.choice(happening.replies))] if self._random.random() < 0.5 else []
            self._passages.append([first, *replies, answer])
            self._ask("continued", happening.question, [answer], p=person, **where)

    def _updated(self) -> None:
        """Where somebody lives, which changes once or twice; what counts is the last."""
        for person in self._people:
            cities = self._random.sample(CITIES, self._random.choice((2, 3)))
            homes = self._homes.setdefault(person, [])
            for number, city in enumerate(cities):
                text = (
                    f"{person} lives in {city}." if not number else f"{person} has moved house and lives in {city} now."
                )
                homes.append(self._with_fact(text, Relation(person, "lives in", city, is_single=True)))
            self._ask_any("updated", "Where does {p} live?", [homes[-1]], p=person)

    def _contradicted(self) -> None:
        """Two people say two things of the same launch."""
        for number in range(self._each):
            project = f"{PROJECTS[number % len(PROJECTS)]} {number // len(PROJECTS) + 1}"
            one, other = self._random.sample(self._people, 2)
            days = self._random.sample(range(1, 29), 2)
            turns = [
                self._turn(f"{one} told me that {project} launches on {days[0]} May."),
                self._turn(f"According to {other}, the launch of {project} is on {days[1]} June."),
            ]
            self._passages += [[turn] for turn in turns]
            self._ask("contradicted", "When does {v} launch?", turns, v=project)

    def _dated(self) -> None:
        """What somebody worked on in some season, beside what they worked on in others."""
        for person in self._people:
            seasons = self._random.sample(SEASONS, 3)
            turns = [
                self._turn(f"In {season} {person} worked on {self._random.choice(PROJECTS)}.") for season in seasons
            ]
            self._passages += [[turn] for turn in turns]
            self._ask("dated", "What did {p} work on in {v}?", turns[:1], p=person, v=seasons[0])

    def _connected(self) -> None:
        """What is known only by going from one fact to another that the question does not name."""
        bases = {
            name: self._with_fact(f"The head office of {name} is in {city}.", Relation(name, "based in", city))
            for name, city in zip(self._organisations, self._cycled(self._shuffled(CITIES)), strict=False)
        }
        stacks = {
            name: self._with_fact(f"{name} is built with {what}.", Relation(name, "built with", what))
            for name, what in zip(PROJECTS, self._cycled(self._shuffled(TECHNOLOGIES)), strict=False)
        }
        self._passages += [*bases.values(), *stacks.values()]
        for number, person in enumerate(self._people):
            if number % 2:
                name, text = self._random.choice(self._organisations), "{p} works for {v}."
                relation, question, second = "works for", "In which city is {p}'s employer based?", bases[name]
            else:
                name, text = self._random.choice(PROJECTS), "{p} leads the team of {v}."
                relation, question, second = "leads", "Which technology does {p}'s team use?", stacks[name]
            first = self._with_fact(text.format(p=person, v=name), Relation(person, relation, name))
            self._passages.append(first)
            self._ask_any("connected", question, [first, second], p=person)

    def _numbered(self) -> None:
        """Numbers that must be found to the letter, among others that look alike."""
        for number in self._random.sample(range(1000, 9999), self._each):
            organisation = self._random.choice(self._organisations)
            turn = self._turn(f"The invoice INV-{number} went to {organisation}.")
            self._passages.append([turn])
            self._ask("numbered", "Who got INV-{v}?", [turn], v=str(number))

    # How it is laid out

    def _laid_out(self) -> Iterator[Told]:
        """Passages in any order, with chit-chat between them; but where somebody lives changes as it was told."""
        chat = [[self._turn(self._chat())] for _ in range(len(self._passages))]
        homes = [[person] * len(told) for person, told in self._homes.items()]
        places: list[list[Told] | str] = [*self._passages, *chat, *(person for persons in homes for person in persons)]
        self._random.shuffle(places)
        coming = {person: iter(told) for person, told in self._homes.items()}
        at_us, turns = BEGIN_US, 0
        for place in places:
            for told in next(coming[place]) if isinstance(place, str) else place:
                yield msgspec.structs.replace(told, happened_us=at_us)
                at_us, turns = at_us + TURN_US, turns + 1
            if turns >= SESSION_TURNS:
                at_us, turns = at_us + self._random.randrange(DAY_US, 3 * DAY_US), 0

    def _with_fact(self, text: str, relation: Relation) -> list[Told]:
        turn = self._turn(text)
        return [turn, msgspec.structs.replace(turn, id=f"{turn.id}f", relation=relation)]

    def _turn(self, text: str) -> Told:
        self._count += 1
        return Told(f"{self._count}", text, round(self._random.uniform(0.3, 0.7), 2))

    def _chat(self) -> str:
        return self._random.choice(CHAT).format(
            p=self._random.choice(self._people),
            q=self._full[self._random.choice(self._people)],
            c=self._random.choice(CITIES),
            o=self._random.choice(self._organisations),
        )

    def _ask(self, category: Category, text: str, turns: Sequence[Told], **values: str) -> None:
        evidence = tuple(frozenset({turn.id}) for turn in turns)
        self._questions.append(Question(category, text.format(**values), evidence))

    def _ask_any(self, category: Category, text: str, passages: Sequence[Sequence[Told]], **values: str) -> None:
        """Asked for what the turn says and the fact that was made of it says, too."""
        evidence = tuple(frozenset(told.id for told in passage) for passage in passages)
        self._questions.append(Question(category, text.format(**values), evidence))

    def _misspell(self, words: str) -> str:
        """Two letters of the longest word change places, or one is left out."""
        longest = max(words.split(), key=len)
        place = self._random.randrange(2, len(longest) - 2)
        if self._random.random() < 0.5 and longest[place] != longest[place + 1]:
            changed = longest[:place] + longest[place + 1] + longest[place] + longest[place + 2 :]
        else:
            changed = longest[:place] + longest[place + 1 :]
        return words.replace(longest, changed)

    def _shuffled(self, names: Sequence[str]) -> list[str]:
        return self._random.sample(names, len(names))

    def _cycled(self, names: Sequence[str]) -> Iterator[str]:
        while True:
            yield from names

    def _chosen(self, pairs: list[tuple[str, int]], times: int) -> list[tuple[str, int]]:
        return self._random.sample(pairs, min(times * self._each, len(pairs)))
