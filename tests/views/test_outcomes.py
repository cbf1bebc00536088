"""What came of each model's calls, by agent and hour: what adaptive strategies learn from."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.adapters.store.memory import MemoryStore
from ostler.adapters.store.memory_views import MemoryViewStore
from ostler.domain.model import Usage
from ostler.domain.session import commands as command
from ostler.domain.session.fork import Fact, fork
from ostler.domain.strategy.adaptive import Outcomes
from ostler.kernel.event import Record, StreamId
from ostler.ports import Append, Standing
from ostler.runtime.journal import chain
from ostler.runtime.projector import Projector
from ostler.runtime.router import Learned
from ostler.views.outcomes import HOUR_US, OUTCOMES, Asked, evolve, first_key, place
from tests.domain.session.story import PRICE, SECOND, Story
from tests.domain.session.test_choosing import A, B, Routed, card
from tests.domain.session.test_replay_properties import live, recorded, stories


def outcomes(*sessions: Iterable[Record]) -> dict[str, Outcomes]:
    """The sums over these sessions, by model."""
    sums: dict[str, Outcomes] = {}
    for records in sessions:
        row: Asked | None = None
        for record in records:
            if OUTCOMES.wants(record):
                row, more = evolve(row, record)
                for key, one in more:
                    _, _, model = place(key)
                    sums[model] = sums.get(model, Outcomes()).plus(one)
    return sums


def test_replies_failures_time_and_cost_are_those_of_the_model_that_was_asked() -> None:
    story = Routed(card(A, price=PRICE), card(B, price=PRICE)).start()
    story.examine()
    story.at += 2
    story.fail()
    story.at += 3
    story.reply(("look", {}), usage=Usage(1_000, 100))
    story.returned("1.1")
    story.examine(B)
    story.at += 1
    story.reply(text="done", usage=Usage(10, 10))
    assert outcomes(recorded(story.log)) == {
        A: Outcomes(replies=1, failures=1, won=1, timed=1, microseconds=1 * SECOND, cost_microusd=180),
        B: Outcomes(replies=1, timed=1, microseconds=3 * SECOND, cost_microusd=4_500),
    }


def test_what_a_failed_attempt_cost_is_put_down_to_the_model_that_failed() -> None:
    story = Routed(card(A, price=PRICE), card(B)).start()
    story.examine()
    story.do(command.ReplyFailed(story.us, "1", "incomplete_reply", "cut", retry_at_us=story.us, usage=Usage(1_000)))
    story.reply(text="done")
    found = outcomes(recorded(story.log))
    assert found[A] == Outcomes(failures=1, cost_microusd=3_000)
    assert found[B] == Outcomes(replies=1, won=1, timed=1)


def test_a_session_is_lost_for_the_model_that_could_not_be_used_and_not_for_what_it_knows_nothing_of() -> None:
    story = Routed(card(A), card(B)).start()
    for _ in range(3):
        story.examine()
        story.reply(text="")
    assert outcomes(recorded(story.log))[A] == Outcomes(failures=3, lost=1, timed=3)

    for code in ("circuit_open", "shed", "configuration"):
        story = Routed(card(A), card(B)).start()
        story.examine()
        story.fail(code, after_s=1)
        story.do(command.Kill(story.us, story.by))
        assert outcomes(recorded(story.log)) == {}


def test_sessions_with_one_model_teach_as_well_and_a_fork_teaches_its_past_only_once() -> None:
    story = Story(price=PRICE).start()
    story.reply(("look", {}), usage=Usage(100, 10))
    story.returned("1.1")
    facts: list[Fact] = [(at_us, event) for at_us, event in story.log]
    forked = fork(facts, session="ses_2", by="anna", at_us=story.us)
    once = outcomes(recorded(story.log))
    assert once == {"scripted:m": Outcomes(replies=1, timed=1, cost_microusd=450)}
    assert outcomes(recorded(story.log), recorded(forked)) == once


@given(stories(), st.data())
@settings(max_examples=50)
def test_whatever_happens_a_session_is_won_or_lost_at_most_once_and_nothing_is_negative(
    story: Story, data: st.DataObject
) -> None:
    found = outcomes(recorded(live(story, data).log))
    assert sum(one.won + one.lost for one in found.values()) <= 1
    assert all(value >= 0 for one in found.values() for value in (one.replies, one.failures, one.microseconds))


class Clock:
    def __init__(self) -> None:
        self.us = 0

    def now_us(self) -> int:
        return self.us


async def test_what_was_learned_is_read_by_agent_discounted_and_kept_for_seconds() -> None:
    store, views, clock = MemoryStore(), MemoryViewStore(), Clock()

    async def record(name: str, agent: str, at_s: float) -> None:
        story = Routed(card(A), card(B))
        story.spec = type(story.spec)(name=agent)
        story.at = at_s
        story.start()
        story.examine()
        story.reply(text="done")
        stream = StreamId("default", name)
        records: list[Record] = []
        for at_us, event in story.log:
            before = records[-1].hash if records else bytes(32)
            records += chain(stream, len(records), before, at_us, [event])
        await store.append(Append(stream, 0, records, Standing(agent, "completed", None)))
        await Projector(store, views, [OUTCOMES]).catch_up()

    await record("ses_1", "clerk", 1.0)
    await record("ses_2", "clerk2", 1.0)
    clock.us = HOUR_US // 2
    learned = Learned(views, clock)
    assert (await learned.of("default", "clerk", 3_600.0))[A].won == 1
    await record("ses_3", "clerk", 3_601.0)
    assert (await learned.of("default", "clerk", 3_600.0))[A].won == 1
    clock.us += HOUR_US
    assert (await learned.of("default", "clerk", 3_600.0))[A].won == 1 + 0.5
    assert await learned.of("default", "nobody", 3_600.0) == {}
    assert await learned.of("other", "clerk", 3_600.0) == {}


@pytest.mark.parametrize("agent", ["clerk", "a-b_c"])
def test_the_sums_of_an_agent_from_an_hour_on_sort_after_its_first_key(agent: str) -> None:
    keys = [f'["{agent}","{hour:08d}","m"]' for hour in (5, 6, 400_000)]
    assert [key for key in sorted(keys) if key > first_key(agent, 6)] == keys[1:]
    assert [place(key)[:2] for key in keys] == [(agent, hour) for hour in (5, 6, 400_000)]
