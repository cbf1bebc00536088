"""What a trial uses is counted, but not as the work of the agent whose decisions are tried."""

import pytest

from ostler.domain.agent import AgentSpec
from ostler.domain.identity import LOCAL_USER
from ostler.domain.model import ModelRef, Usage
from ostler.domain.session.events import (
    SESSION_CODEC,
    AgentCompleted,
    AgentForked,
    AgentStarted,
    ModelCompleted,
    ModelRequested,
    SessionEvent,
)
from ostler.kernel.event import GENESIS, Record, StreamId
from ostler.views.fold import AnyView
from ostler.views.outcomes import OUTCOMES
from ostler.views.usage import USAGE
from ostler.views.work import WORK

OLD, NEW = ModelRef("scripted", "scripted", "old"), ModelRef("scripted", "scripted", "new")
PAST = (ModelRequested("1"), ModelCompleted("1", "done", usage=Usage(5, 1)))
TRIED = (ModelRequested("2"), ModelCompleted("2", "done", usage=Usage(7, 2)), AgentCompleted("done", "trial"))


def folded(view: AnyView, *events: SessionEvent) -> dict[str, object]:
    """The sums of the view after these events of one session."""
    row, sums = None, dict[str, object]()
    for seq, event in enumerate(events, 1):
        record = Record(StreamId("default", "ses_2"), seq, seq, SESSION_CODEC.encode(event), GENESIS)
        step = view.evolve(row, record)
        row = step.row
        for key, more in step.more:
            sums[key] = view.add(sums[key], more) if key in sums else more
    return sums


def session(trial: ModelRef | None) -> tuple[SessionEvent, ...]:
    start = AgentStarted("ses_2", AgentSpec("clerk"), OLD, "Do it.", LOCAL_USER, origin="ses_1")
    return (start, *PAST, AgentForked("ses_1", 3, "ada", trial=trial), *TRIED)


@pytest.mark.parametrize(("view", "whose"), [(USAGE, "clerk@1 (trial)"), (WORK, "agent:clerk@1 (trial)")])
def test_a_trial_is_counted_under_a_name_of_its_own(view: AnyView, whose: str) -> None:
    (key,) = folded(view, *session(NEW))
    assert f'"{whose}"' in key
    (usual,) = folded(view, *session(None))
    assert "(trial)" not in usual


def test_what_a_trial_uses_is_the_usage_of_the_other_model() -> None:
    ((key, tally),) = folded(USAGE, *session(NEW)).items()
    assert '"scripted:new"' in key
    assert (getattr(tally, "model_calls", 0), getattr(tally, "input_tokens", 0)) == (1, 7)


def test_nothing_is_learned_from_a_trial() -> None:
    assert folded(OUTCOMES, *session(NEW)) == {}
    assert len(folded(OUTCOMES, *session(None))) == 1
