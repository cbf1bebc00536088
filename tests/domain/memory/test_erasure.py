"""What has to go for somebody's sake is all that says it: no less, and nothing that is merely near."""

import pytest

from ostler.domain.memory.erasure import Account, Doomed, Reach, Which, reach, runs
from ostler.domain.memory.events import (
    EntityDescribed,
    MemoryConsolidated,
    MemoryContradicted,
    MemoryErased,
    MemoryEvent,
    MemoryOpened,
    MemoryRecalled,
    MemoryRemembered,
)
from ostler.domain.memory.memory import Memory, Relation, Source
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import UsageError
from ostler.kernel.event import Record

ADA = Scope("acme", "vet", "ada")
BOB = Scope("acme", "vet", "bob")
LATE = Scope("acme", "vet", "ada", "ses_late")
SHARED = Scope("acme")


class Log:
    """Events of several scopes, numbered as a store would."""

    def __init__(self) -> None:
        self.account = Account()
        self._position = 0
        self._seqs: dict[Scope, int] = {}

    def write(self, scope: Scope, *events: MemoryEvent) -> None:
        opening = [] if scope in self._seqs else [MemoryOpened(scope)]
        for event in (*opening, *events):
            self._position += 1
            self._seqs[scope] = seq = self._seqs.get(scope, 0) + 1
            record = Record(scope.stream, seq, self._position, b"", b"", self._position)
            self.account.take(scope.stream, record, event)

    def remember(self, scope: Scope, id: str, text: str, session: str = "", **fields: object) -> None:  # noqa: A002
        source = Source("agent:vet", f"{session}/1" if session else "", of=fields.pop("of", ()))  # type: ignore[arg-type]
        kind = fields.pop("kind", "fact")
        self.write(scope, MemoryRemembered(Memory(id, kind, text, source, 1, **fields)))  # type: ignore[arg-type]

    def reach(self, **which: object) -> Reach:
        return reach(self.account, Which(**which))  # type: ignore[arg-type]


def doomed(found: Reach) -> dict[str, str]:
    return {one.id: one.reason for one in found.memories}


def test_a_users_memories_are_those_of_the_scope_and_of_the_sessions_in_it() -> None:
    log = Log()
    log.remember(ADA, "a", "The mare is lame.")
    log.remember(LATE, "b", "It rains.")
    log.remember(BOB, "c", "The stallion bites.")
    log.remember(SHARED, "d", "The yard is closed.")
    found = log.reach(scope=ADA)
    assert doomed(found) == {"a": "named", "b": "named"}
    assert found.scopes == (ADA, LATE)
    assert doomed(log.reach(scope=SHARED)) == {"d": "named"}


def test_a_user_is_found_with_every_agent_and_in_what_they_wrote_elsewhere() -> None:
    log = Log()
    log.remember(ADA, "a", "The mare is lame.")
    log.remember(Scope("acme", "smith", "ada"), "b", "Size five.")
    source = Source("user:ada")
    log.write(SHARED, MemoryRemembered(Memory("c", "fact", "Call me.", source, 1)))
    log.remember(SHARED, "d", "The yard is closed.")
    assert doomed(log.reach(user="ada")).keys() == {"a", "b", "c"}


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "I met ADA  Lovelace today"},
        {"text": "x", "key": "people/Ada Lovelace"},
        {"text": "x", "tags": ("ada lovelace",)},
        {"text": "x", "relation": Relation("Ada Lovelace", "keeps", "a mare")},
        {"text": "x", "relation": Relation("a mare", "belongs to", "ada lovelace")},
        {"text": "x", "relation": Relation("a", "b", "c", properties={"owner": "Ada Lovelace"})},
    ],
)
def test_a_subject_is_found_wherever_a_memory_names_it(fields: dict[str, object]) -> None:
    log = Log()
    log.remember(BOB, "a", **fields)  # type: ignore[arg-type]
    log.remember(BOB, "b", "Ada Lovelaces are many, and Ada alone is no subject.")
    assert doomed(log.reach(subject="Ada Lovelace")) == {"a": "named"}
    assert doomed(log.reach(subject="Ada Lovelace", scope=ADA)) == {}


def test_a_description_goes_with_its_subject() -> None:
    log = Log()
    for name, note in (("Ada", "owner"), ("Bob", "a friend of Ada's"), ("Cid", "a smith")):
        log.write(BOB, EntityDescribed(name, "person", Source("agent:vet"), {"note": note}))
    assert log.reach(subject="ada").entities == ((BOB, "Ada"), (BOB, "Bob"))


def test_older_versions_and_what_was_merged_say_the_same() -> None:
    log = Log()
    log.remember(ADA, "v1", "one", key="/memories/a", kind="file")
    log.remember(ADA, "v2", "two", key="/memories/a", kind="file")
    log.remember(ADA, "near", "Two, nearly.")
    log.remember(ADA, "both", "Two.")
    log.remember(ADA, "other", "three", key="/memories/b", kind="file")
    log.write(ADA, MemoryConsolidated(("v2", "near"), "both", "merged"))
    found = log.reach(ids=("v1",))
    assert doomed(found) == {"v1": "named", "v2": "version", "both": "merged", "near": "merged"}
    assert [one.distance for one in found.memories] == [0, 1, 2, 3]


def test_what_was_made_of_it_goes_and_what_it_was_made_of_stays() -> None:
    log = Log()
    for name in ("e1", "e2", "e3"):
        log.remember(ADA, name, f"It limped again, {name}.", kind="episode")
    log.remember(ADA, "fact", "It always limps.", of=("e1", "e2", "e3"))
    log.write(ADA, MemoryConsolidated(("e1", "e2", "e3"), "fact", "promoted"))
    assert doomed(log.reach(ids=("e1",))) == {"e1": "named", "fact": "derived"}
    assert doomed(log.reach(ids=("fact",))) == {"fact": "named"}


def told_and_retold() -> Log:
    log = Log()
    log.remember(ADA, "before", "Hay is dear this year.", session="ses_2")
    log.remember(ADA, "secret", "The bay mare of Ada has colic every spring.", session="ses_1")
    log.write(ADA, MemoryRecalled(("secret",), "ses_2/0.recall"))
    log.remember(ADA, "retold", "I looked it up: the bay mare of Ada had been ill.", session="ses_2")
    log.remember(ADA, "paraphrase", "She should not get wet grass.", session="ses_2")
    log.write(ADA, MemoryRecalled(("retold",), "ses_3/2.1"))
    log.remember(SHARED, "again", "They say: looked it up, the bay mare, ill.", session="ses_3")
    log.remember(ADA, "stranger", "the bay mare of Ada is mentioned by one who never saw it", session="ses_4")
    return log


def test_what_a_session_that_was_given_it_wrote_in_its_words_goes_too() -> None:
    found = told_and_retold().reach(ids=("secret",))
    assert doomed(found) == {"secret": "named", "retold": "retold", "again": "retold"}
    assert found.sessions == {"ses_1", "ses_2", "ses_3"}


def test_what_it_wrote_in_words_of_its_own_is_told_and_goes_if_that_is_wanted() -> None:
    log = told_and_retold()
    assert log.reach(ids=("secret",)).possible == ("paraphrase",)
    found = log.reach(ids=("secret",), is_thorough=True)
    assert doomed(found)["paraphrase"] == "possible"
    assert found.possible == ()
    assert "before" not in doomed(found)


def test_a_contradiction_tells_of_both() -> None:
    log = Log()
    log.remember(ADA, "a", "It is in May.")
    log.remember(ADA, "b", "It is in June.")
    log.write(ADA, MemoryContradicted("b", "a", "the same launch"))
    assert log.account.events_of("a") == [2, 4]
    assert log.account.events_of("b") == [3, 4]


def test_sessions_that_had_erased_memories_in_sight_stay_owed() -> None:
    log = Log()
    log.remember(ADA, "a", "It is in May.")
    log.write(ADA, MemoryRecalled(("gone",), "ses_7/1.1"), MemoryErased(("gone",), "ada", "asked", ("ses_8",)))
    assert log.reach(ids=("nothing",)).sessions == {"ses_7", "ses_8"}


WRONG = [
    Which(),
    Which(subject="  "),
    Which(user="ada", ids=("a",)),
    Which(scope=ADA, ids=("a",)),
    Which(scope=Scope("rival")),
]


@pytest.mark.parametrize("which", WRONG, ids=str)
def test_nothing_means_everything_and_nobody_reaches_another_tenant(which: Which) -> None:
    with pytest.raises(UsageError):
        which.check("acme")


def test_runs_are_of_words_that_tell_something() -> None:
    assert runs("It is what it is.") == frozenset()
    assert runs("The Bay   mare") == {("the", "bay", "mare")}
    assert runs("The bay mare of Ada") == {("the", "bay", "mare", "of"), ("bay", "mare", "of", "ada")}


def test_what_is_doomed_shows_its_text() -> None:
    log = Log()
    log.remember(ADA, "a", "The mare is lame.")
    assert log.reach(ids=("a",)).memories == (Doomed(ADA, "a", "named", 0, "The mare is lame."),)
