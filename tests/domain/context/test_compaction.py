"""What the model sees never outgrows its window, and what belongs together stays together."""

import pytest
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from ostler.domain import context
from ostler.domain.agent import ContextSettings, Limits
from ostler.domain.context.estimate import estimated_input_tokens
from ostler.domain.model import AssistantMessage, Reasoning, Reply, ToolMessage, Usage, UserMessage
from ostler.domain.session import commands as command
from ostler.domain.session.events import AgentFailed, ContextCompacted, ToolCompleted
from ostler.domain.session.evolve import evolve
from ostler.domain.tokens import NOTHING, counts_of_message, plus
from ostler.runtime.replay import replay, snapshot, state_after
from tests.domain.context import crowded
from tests.domain.context.crowded import compactions, live, recorded, requests, text_of
from tests.domain.session.story import Story, kinds

TOOLS = st.sampled_from(("native", "native", "text"))

COUNTED = ContextSettings(window_tokens=1_000_000)


def worked(settings: ContextSettings, turns: int, tokens: int = 300, **agent: object) -> Story:
    """A session that looks at something large in every turn."""
    story = crowded.crowded(settings, **agent).start(crowded.GOAL)
    for turn in range(1, turns + 1):
        if story.now.end is not None:
            break
        story.reply(("look", {}), text=f"Turn {turn}.")
        story.returned(f"{turn}.1", text_of(tokens))
    return story


@options(max_examples=150, deadline=None)
@given(crowded.settings(), TOOLS, st.data())
def test_whatever_happens_the_request_fits_and_holds_together_or_the_session_says_that_it_cannot(
    settings: ContextSettings, tools: str, data: st.DataObject
) -> None:
    story = live(crowded.crowded(settings, tools=tools, limits=Limits(steps=None, defects=9)), data, 60)
    window = settings.window_tokens
    assert window is not None
    for state, event in requests(story):
        asked = context.request(state, state.open[0])
        size = context.summary_tokens(state, event.covers) if event.covers else estimated_input_tokens(state)
        assert size + (event.max_tokens or asked.settings.max_tokens) <= window
    for _, ended in story.log:
        if isinstance(ended, AgentFailed) and ended.reason == "context_overflow":
            assert estimated_input_tokens(story.now) + 16 > window


@options(max_examples=100, deadline=None)
@given(crowded.settings(), TOOLS, st.data())
def test_every_drop_is_an_event_that_says_what_it_left_and_the_log_still_has_it(
    settings: ContextSettings, tools: str, data: st.DataObject
) -> None:
    story = live(crowded.crowded(settings, tools=tools, limits=Limits(steps=None, defects=9)), data, 60)
    before = None
    for at_us, event in story.log:
        after = evolve(before, event, at_us)
        if isinstance(event, ContextCompacted):
            assert before is not None
            assert event.tokens_before == estimated_input_tokens(before)
            assert event.tokens_after == estimated_input_tokens(after)
            assert event.tokens_after < event.tokens_before
            assert event.calls or event.spans
            gone = [message for start, end in event.spans for message in list(before.transcript)[start:end]]
            assert not any(message in list(after.transcript) for message in gone if isinstance(message, ToolMessage))
        elif before is not None:
            assert list(after.transcript)[: len(before.transcript)] == list(before.transcript)
        before = after
    completed = [event.call for _, event in story.log if isinstance(event, ToolCompleted)]
    assert len(completed) == len(set(completed))


@options(max_examples=60, deadline=None)
@given(crowded.settings(), TOOLS, st.data())
def test_a_session_that_was_compacted_is_decided_again_alike(
    settings: ContextSettings, tools: str, data: st.DataObject
) -> None:
    story = live(crowded.crowded(settings, tools=tools, limits=Limits(steps=None, defects=9)), data, 60)
    records = recorded(story)
    state = state_after(records)
    assert state is not None
    assert snapshot(replay(records).state) == snapshot(state) == snapshot(story.now)


@options(max_examples=60, deadline=None)
@given(crowded.settings(), TOOLS, st.data())
def test_what_is_counted_is_what_is_there(settings: ContextSettings, tools: str, data: st.DataObject) -> None:
    state = live(crowded.crowded(settings, tools=tools, limits=Limits(steps=None, defects=9)), data, 60).now
    total = NOTHING
    for message in state.transcript:
        total = plus(total, counts_of_message(message))
    assert state.context.counts == total


def test_bulky_results_become_one_line_each_from_the_oldest_and_the_last_is_kept() -> None:
    story = worked(ContextSettings(window_tokens=4_000), 8)
    first = compactions(story)[0]
    assert (first.by, first.spans, first.summary) == ("references", (), "")
    assert first.calls[0] == "1.1"
    assert first.tokens_after <= 2_000 < 3_200 < first.tokens_before
    result = next(message for message in story.now.transcript if isinstance(message, ToolMessage))
    assert result.text == (
        '{"ok":true,"left_out":"The result of look {} (1,221 characters) is not shown any more. '
        'Call it again to see it."}'
    )
    last = [message for message in story.now.transcript if isinstance(message, ToolMessage)][-1]
    assert len(last.text) > 1_000


def test_the_result_of_a_call_that_did_something_is_not_offered_to_be_had_by_doing_it_again() -> None:
    story = crowded.crowded(ContextSettings(window_tokens=4_000)).start(crowded.GOAL)
    for turn in range(1, 9):
        story.reply(("pay", {}))
        story.returned(f"{turn}.1", text_of(400))
    line = next(message for message in story.now.transcript if isinstance(message, ToolMessage))
    assert "do not call it again" in line.text


def test_the_oldest_turns_go_when_references_are_not_enough_and_the_model_is_told() -> None:
    story = worked(ContextSettings(window_tokens=1_500), 60, tokens=100)
    found = compactions(story)
    assert {event.by for event in found} == {"trim"}
    note = story.now.transcript[1]
    assert isinstance(note, UserMessage)
    gone = sum(event.turns for event in found)
    assert note.text == f"[To make room, {gone} turns between the goal and what follows are not shown any more.]"
    assert story.now.end is None or story.now.end.reason == "step_limit"


def test_compactions_are_rare() -> None:
    story = worked(ContextSettings(window_tokens=20_000), 49)
    assert len(requests(story)) == 50
    assert 1 <= len(compactions(story)) <= 3


def test_turns_with_calls_of_pinned_tools_stay_whole() -> None:
    settings = ContextSettings(window_tokens=2_000, pinned=("no*",))
    story = crowded.crowded(settings).start(crowded.GOAL)
    story.reply(("note", {"text": "x"}))
    story.returned("1.1", text_of(300))
    for turn in range(2, 30):
        story.reply(("look", {}))
        story.returned(f"{turn}.1", text_of(150))
    assert compactions(story)
    results = [message for message in story.now.transcript if isinstance(message, ToolMessage)]
    assert (results[0].call, len(results[0].text) > 1_000) == ("1.1", True)


def test_a_last_turn_that_is_too_large_ends_the_session_with_the_reason() -> None:
    story = crowded.crowded(ContextSettings(window_tokens=1_500)).start(crowded.GOAL)
    story.reply(("look", {}))
    assert kinds(story.returned("1.1", text_of(3_000))) == ["tool.completed", "agent.failed"]
    assert story.now.end is not None
    assert story.now.end.reason == "context_overflow"
    assert "the last turn" in story.now.end.text


def test_what_was_thought_in_a_turn_goes_with_the_turn_and_stays_with_the_last() -> None:
    story = crowded.crowded(ContextSettings(("trim",), window_tokens=2_000)).start(crowded.GOAL)
    for turn in range(1, 30):
        thought = Reasoning("anthropic", "m", f'{{"thinking":"{turn}"}}')
        reply = Reply("", crowded.asking("look"), "tool_calls", reasoning=(thought,))
        story.do(command.ReplyReceived(story.us, story.now.open[0].id, reply))
        story.returned(f"{turn}.1", text_of(100))
    replies = [message for message in story.now.transcript if isinstance(message, AssistantMessage)]
    assert len(replies) < 29
    assert [message.reasoning[0].raw for message in replies] == [
        f'{{"thinking":"{turn}"}}' for turn in range(30 - len(replies), 30)
    ]


def test_without_a_known_window_nothing_is_left_out() -> None:
    story = worked(ContextSettings(), 40, tokens=900)
    assert compactions(story) == []
    assert len([message for message in story.now.transcript if isinstance(message, AssistantMessage)]) == 40


def test_the_window_of_the_model_counts_and_that_of_the_agent_if_it_is_smaller() -> None:
    for of_model, of_agent, expected in ((4_000, None, 4_000), (4_000, 2_000, 2_000), (2_000, 4_000, 2_000)):
        story = crowded.crowded(ContextSettings(window_tokens=of_agent))
        story.model = crowded.with_window(story.model, of_model)
        story.start(crowded.GOAL)
        assert context.window_of(story.now) == expected


def test_a_reply_has_what_the_request_leaves_of_the_window() -> None:
    story = crowded.crowded(ContextSettings(window_tokens=4_000)).start(crowded.GOAL)
    ((state, event),) = requests(story)
    assert event.max_tokens == 4_000 - estimated_input_tokens(state)


def test_what_a_provider_reports_corrects_the_next_estimate() -> None:
    story = crowded.crowded(COUNTED).start(crowded.GOAL)
    before = estimated_input_tokens(story.now)
    story.reply(("look", {}), usage=Usage(2 * before, 10))
    story.returned("1.1", "ok")
    after = estimated_input_tokens(story.now)
    assert 2 * before < after < 3 * before


def test_of_a_report_that_cannot_be_only_so_much_is_believed() -> None:
    for reported, at_least, at_most in ((1, 0.4, 0.8), (10_000_000, 3.9, 5.0)):
        story = crowded.crowded(COUNTED).start(crowded.GOAL)
        before = estimated_input_tokens(story.now)
        story.reply(("look", {}), usage=Usage(reported, 10))
        assert at_least * before < estimated_input_tokens(story.now) < at_most * before


def test_what_one_family_of_models_reports_says_nothing_of_another() -> None:
    story = crowded.crowded(COUNTED).start(crowded.GOAL)
    plain = estimated_input_tokens(story.now)
    story.reply(("look", {}), usage=Usage(3 * plain, 10))
    corrected = estimated_input_tokens(story.now)
    other = crowded.with_model(story.now, "gpt-6")
    assert estimated_input_tokens(other) < corrected / 2


def test_the_schema_of_the_answer_is_part_of_every_request() -> None:
    text = "How large it is, in metres, and of what it is made"
    schema = {"type": "object", "properties": {f"part{n}": {"type": "string", "description": text} for n in range(9)}}
    plain = crowded.crowded(COUNTED).start(crowded.GOAL)
    structured = crowded.crowded(COUNTED, returns=schema).start(crowded.GOAL)
    assert estimated_input_tokens(structured.now) > estimated_input_tokens(plain.now) + 9 * 12


def test_a_session_without_a_bound_is_counted_only_when_somebody_asks_and_then_alike() -> None:
    free, bound = worked(ContextSettings(), 5), worked(COUNTED, 5)
    assert (free.now.context.is_counted, bound.now.context.is_counted) == (False, True)
    assert estimated_input_tokens(free.now) == estimated_input_tokens(bound.now)
    assert free.now.context.counts == NOTHING


@pytest.mark.parametrize("limits", [Limits(tokens=100_000), Limits(cost_microusd=100_000)])
def test_a_session_with_a_budget_of_its_own_is_counted_as_it_grows(limits: Limits) -> None:
    assert crowded.crowded(ContextSettings(), limits=limits).start(crowded.GOAL).now.context.is_counted
