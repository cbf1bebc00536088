"""Working memory against a model of it: an ordered dictionary that lets go of what was used longest ago."""

from collections import OrderedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.domain.memory.settings import MemorySettings
from ostler.domain.memory.tools import WORKING_DROP, WORKING_GET, WORKING_PUT
from ostler.domain.memory.working import EMPTY, Performed, WorkingMemory, perform
from ostler.domain.tokens import counts_of, tokens

SETTINGS = MemorySettings(working_entries=3, working_tokens=100)


def do(memory: WorkingMemory, tool: str, key: str, settings: MemorySettings = SETTINGS, **more: object) -> Performed:
    return perform(memory, tool, {"key": key, **more}, settings=settings, call="1.1", labels=())


def keep(*keys: str, settings: MemorySettings = SETTINGS, pinned: tuple[str, ...] = ()) -> WorkingMemory:
    memory = EMPTY
    for key in keys:
        memory = do(memory, WORKING_PUT, key, settings, text=key, pinned=key in pinned).memory
    return memory


def keys(memory: WorkingMemory) -> list[str]:
    return [entry.key for entry in memory.entries]


def test_what_was_used_longest_ago_goes_and_not_what_was_put_longest_ago() -> None:
    memory = do(keep("a", "b", "c"), WORKING_GET, "a").memory
    done = do(memory, WORKING_PUT, "d", text="d")
    assert keys(done.memory) == ["c", "a", "d"]
    assert msgspec.json.decode(done.outcome.output) == {"kept": "d", "let_go": ["b"]}


def test_what_is_put_again_is_replaced_and_used_last() -> None:
    memory = do(keep("a", "b", "c"), WORKING_PUT, "a", text="new").memory
    assert keys(memory) == ["b", "c", "a"]
    assert memory.entries[-1].text == "new"


def test_looking_at_an_entry_is_no_use_of_it() -> None:
    memory = keep("a", "b", "c")
    assert memory.entry("a") is not None
    assert keys(do(memory, WORKING_PUT, "d", text="d").memory) == ["b", "c", "d"]


def test_pinned_entries_never_go_and_what_does_not_fit_beside_them_is_refused_by_name() -> None:
    memory = keep("a", "b", "c", pinned=("a", "b"))
    done = do(memory, WORKING_PUT, "d", text="d")
    assert keys(done.memory) == ["a", "b", "d"]
    full = keep("a", "b", "c", pinned=("a", "b", "c"))
    refused = do(full, WORKING_PUT, "d", text="d")
    assert refused.memory == full
    assert (refused.outcome.ok, refused.outcome.kind) == (False, "invalid")
    assert "'a', 'b', 'c' must stay" in refused.outcome.output


def test_what_is_larger_than_all_the_room_is_refused_and_drives_nothing_out() -> None:
    memory = keep("a", "b")
    refused = do(memory, WORKING_PUT, "c", text="word " * 500)
    assert refused.memory == memory
    assert "make it shorter" in refused.outcome.output


def test_a_pinned_entry_that_is_put_again_needs_only_its_own_room() -> None:
    memory = keep("a", "b", "c", pinned=("a", "b", "c"))
    assert do(memory, WORKING_PUT, "a", text="new", pinned=True).outcome.ok


@pytest.mark.parametrize("tool", [WORKING_GET, WORKING_DROP])
def test_of_what_is_not_there_one_is_told_what_is(tool: str) -> None:
    done = do(keep("a", "b"), tool, "x")
    assert (done.outcome.ok, done.outcome.kind) == (False, "not_found")
    assert done.outcome.output == "nothing is kept under 'x'; there is: 'a', 'b'"


def size(key: str, text: str) -> int:
    return tokens(counts_of(f"{key} {text}"), "other")


class Model:
    """The same, as one would write it down: the first of the dictionary was used longest ago."""

    def __init__(self, entries_max: int, tokens_max: int) -> None:
        self.kept: OrderedDict[str, tuple[str, bool]] = OrderedDict()
        self.entries_max, self.tokens_max = entries_max, tokens_max

    def put(self, key: str, text: str, pinned: bool) -> bool:
        before = OrderedDict(self.kept)
        self.kept.pop(key, None)
        self.kept[key] = (text, pinned)
        while self._is_too_much():
            loose = [one for one, (_, is_pinned) in self.kept.items() if not is_pinned and one != key]
            if not loose:
                self.kept = before
                return False
            del self.kept[loose[0]]
        return True

    def get(self, key: str) -> str | None:
        if key not in self.kept:
            return None
        self.kept.move_to_end(key)
        return self.kept[key][0]

    def _is_too_much(self) -> bool:
        used = sum(size(key, text) for key, (text, _) in self.kept.items())
        return len(self.kept) > self.entries_max or used > self.tokens_max


STEPS = st.lists(
    st.tuples(
        st.sampled_from((WORKING_PUT, WORKING_PUT, WORKING_GET, WORKING_DROP)),
        st.sampled_from("abcdef"),
        st.sampled_from(("one", "two words", "three words here " * 3, "many " * 40)),
        st.integers(0, 4).map(lambda number: number == 0),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5), st.integers(5, 150), STEPS)
def test_working_memory_is_an_lru_that_knows_pins(
    entries_max: int, tokens_max: int, steps: list[tuple[str, str, str, bool]]
) -> None:
    bounds = MemorySettings(working_entries=entries_max, working_tokens=tokens_max)
    memory, model = EMPTY, Model(entries_max, tokens_max)
    for tool, key, text, pinned in steps:
        if tool == WORKING_PUT:
            done = do(memory, tool, key, bounds, text=text, pinned=pinned)
            assert done.outcome.ok == model.put(key, text, pinned)
        elif tool == WORKING_GET:
            done, expected = do(memory, tool, key, bounds), model.get(key)
            assert done.outcome.ok == (expected is not None)
            if expected is not None:
                assert msgspec.json.decode(done.outcome.output)["text"] == expected
        else:
            done = do(memory, tool, key, bounds)
            assert done.outcome.ok == (model.kept.pop(key, None) is not None)
        memory = done.memory
        kept = [(entry.key, entry.text, entry.is_pinned) for entry in memory.entries]
        assert kept == [(one, text, is_pinned) for one, (text, is_pinned) in model.kept.items()]
        assert len(memory) <= entries_max
        assert memory.tokens <= tokens_max
