"""The state machine of circuit breakers."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ostler.domain.resilience.breaker import (
    CLOSED,
    WAIT_FACTOR_MAX,
    Admitted,
    Breaker,
    Change,
    Key,
    Open,
    Outcome,
    State,
    admit,
    look,
    outcome_of_model,
    outcome_of_tool,
    report,
    reset,
)
from ostler.kernel.errors import (
    CircuitOpen,
    IncompleteReply,
    ProviderGarbled,
    ProviderOverloaded,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)

KEY = Key("acme", "provider", "hay")
SECOND_US = 1_000_000
BREAKER = Breaker(failures=3, recovery_s=10.0, probe_s=5.0, window_s=60.0, rate=0.5, calls_min=10)


OUTCOMES: dict[str, Outcome] = {".": "ok", "x": "failed", "-": "ignored"}


def after(state: State, outcomes: str, now_us: int = 0, breaker: Breaker = BREAKER) -> State:
    """A state after calls that are let begin and end one by one: `.` well, `x` failed, `-` ignored."""
    for letter in outcomes:
        state, admitted = admit(state, KEY, breaker, now_us)
        assert isinstance(admitted, Admitted), admitted
        state, _ = report(state, admitted, breaker, OUTCOMES[letter], now_us, "down")
    return state


@pytest.mark.parametrize(
    ("outcomes", "because"),
    [
        ("xx", None),
        ("xxx", "3 failures in a row, the last: down"),
        ("xx.xx", None),
        ("xx-x", "3 failures in a row, the last: down"),
        ("xx-", None),
        ("..........xx", None),
        ("xx.xx.x..", None),
        ("xx.xx.x..x", "6 of 10 calls failed, the last: down"),
        ("x.x.x.x.x.", None),
        ("x.x.x.x.x.x", "6 of 11 calls failed, the last: down"),
    ],
)
def test_it_opens_after_failures_in_a_row_or_when_too_large_a_share_of_enough_calls_failed(outcomes, because):
    state = after(CLOSED, outcomes)
    assert (state.until_us, state.because) == ((None, "") if because is None else (10 * SECOND_US, because))


def test_the_share_is_that_of_the_last_window():
    half_us = 30 * SECOND_US
    many = Breaker(failures=99, calls_min=10, window_s=60.0)
    state = after(CLOSED, "....", 0, many)
    state = after(state, "xxxxx", half_us, many)
    assert (state.calls_before, state.calls) == (4, 5)
    assert after(state, "x", 2 * half_us - 1, many).until_us is not None  # 6 of 10
    moved = after(state, "xxxx", 2 * half_us, many)
    assert (moved.until_us, moved.calls_before, moved.calls) == (None, 5, 4)  # 9 of 9 are not yet 10
    assert after(moved, "x", 2 * half_us, many).until_us is not None
    assert after(state, "xxxxxxxxx", 3 * half_us, many).until_us is None  # nothing of before counts
    assert after(state, "x", 0, many).until_us is not None  # nor does a clock that was put back begin anew


def test_the_gaps_between_failing_probes_are_one_two_and_four_waits_and_at_most_64():
    state, now_us, gaps = after(CLOSED, "xxx"), 0, []
    for _ in range(10):
        until_us = state.until_us
        assert until_us is not None
        gaps.append((until_us - now_us) / (10 * SECOND_US))
        now_us = until_us
        assert isinstance(admit(state, KEY, BREAKER, now_us - 1)[1], Open)
        state = after(state, "x", now_us)
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]
    assert state.opened_us == 0
    assert state.because == "the probe failed: down"


def test_after_a_probe_that_did_well_everything_begins_anew():
    state = after(CLOSED, "xxx")
    state = after(state, "x", 10 * SECOND_US)
    state = after(state, ".", 30 * SECOND_US)
    assert state == State(epoch=3)
    assert after(state, "xx", 31 * SECOND_US).until_us is None
    assert after(state, "xxx", 31 * SECOND_US).until_us == 41 * SECOND_US


@pytest.mark.parametrize("outcome", ["ok", "failed", "ignored"])
def test_what_began_before_it_opened_changes_nothing(outcome):
    _, late = admit(CLOSED, KEY, BREAKER, 0)
    assert isinstance(late, Admitted)
    opened = after(CLOSED, "xxx")
    probing, _ = admit(opened, KEY, BREAKER, 10 * SECOND_US)
    closed = after(opened, ".", 10 * SECOND_US)
    for state in (opened, probing, closed):
        assert report(state, late, BREAKER, outcome, 11 * SECOND_US) == (state, None)


@pytest.mark.parametrize(
    ("outcome", "until_us"), [("ok", None), ("failed", 37 * SECOND_US), ("ignored", 10 * SECOND_US)]
)
def test_a_probe_that_was_given_up_is_still_heard_but_does_not_let_a_third_one_begin(outcome, until_us):
    state, first = admit(after(CLOSED, "xxx"), KEY, BREAKER, 10 * SECOND_US)
    state, second = admit(state, KEY, BREAKER, 15 * SECOND_US)
    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    state, _ = report(state, first, BREAKER, outcome, 17 * SECOND_US)
    assert state.until_us == until_us
    assert (look(state, 17 * SECOND_US) is None) == (outcome == "ok")


def test_while_a_probe_is_under_way_the_others_ask_again_soon_and_never_after_it_is_given_up():
    patient = msgspec.structs.replace(BREAKER, probe_s=60.0)
    probing, _ = admit(after(CLOSED, "xxx"), KEY, patient, 10 * SECOND_US)
    for now_s, again_s in ((10, 15), (64, 69), (66, 70), (69, 70)):
        refused = look(probing, now_s * SECOND_US)
        assert refused is not None
        assert refused.until_us == again_s * SECOND_US
    assert look(probing, 70 * SECOND_US) is None


@pytest.mark.parametrize("is_probing", [False, True])
def test_a_clock_that_was_put_back_a_day_keeps_nobody_out_for_a_day(is_probing):
    now_us = 10**15
    state = CLOSED
    for _ in range(3):
        state, _ = report(state, Admitted(KEY, 0), BREAKER, "failed", now_us)
    if is_probing:
        state, probe = admit(state, KEY, BREAKER, now_us + 10 * SECOND_US)
        assert isinstance(probe, Admitted)
    for put_back_s in (1, 59):
        assert look(state, now_us - put_back_s * SECOND_US) is not None
    now_us -= 86_400 * SECOND_US
    assert look(state, now_us) is None
    state, probe = admit(state, KEY, BREAKER, now_us)
    assert isinstance(probe, Admitted)
    state, other = admit(state, KEY, BREAKER, now_us + 1)
    assert isinstance(other, Open)
    state, _ = report(state, probe, BREAKER, "failed", now_us)
    refused = look(state, now_us)
    assert refused is not None
    assert refused.until_us == now_us + 20 * SECOND_US


def test_states_are_kept_as_short_json_and_read_again():
    state = after(CLOSED, "xxx")
    data = msgspec.json.encode(state)
    assert msgspec.json.decode(data, type=State) == state
    assert msgspec.json.encode(CLOSED) == b"{}"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (ProviderUnreachable(), "failed"),
        (ProviderTimeout(), "failed"),
        (ProviderOverloaded(status=529), "failed"),
        (IncompleteReply(), "failed"),
        (ProviderGarbled(), "failed"),
        (ProviderRejected(status=400), "ok"),
        (RateLimited(status=429), "ignored"),
        (CircuitOpen(), "ignored"),
        (ValueError("a defect of ours"), "ignored"),
    ],
)
def test_a_provider_that_answers_is_well_whatever_it_answers(error, outcome):
    assert outcome_of_model(error) == outcome


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (None, "ok"),
        ("transient", "failed"),
        ("timeout", "failed"),
        ("invalid", "ok"),
        ("not_found", "ok"),
        ("permanent", "ok"),
        ("cancelled", "ignored"),
        ("blocked", "ignored"),
        ("unknown", "ignored"),
    ],
)
def test_a_tool_that_says_what_is_wrong_with_a_call_is_well(failure, outcome):
    assert outcome_of_tool(failure) == outcome


class Machine(RuleBasedStateMachine):
    """Any calls in any order, beginning and ending at any time, beside a model that remembers all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.state = CLOSED
        self.now_us = 0
        self.under_way: list[tuple[Admitted, int]] = []
        self.opened_us: int | None = None
        self.failed_probes = 0
        self.changed = 0
        self.probes: dict[Admitted, int] = {}

    @initialize(
        failures=st.integers(1, 4), rate=st.floats(0.1, 1), calls_min=st.integers(1, 8), recovery_s=st.integers(1, 5)
    )
    def begin(self, failures, rate, calls_min, recovery_s):
        self.breaker = Breaker(failures, rate, calls_min, window_s=20.0, recovery_s=float(recovery_s), probe_s=3.0)

    @rule(seconds=st.integers(0, 40))
    def time_passes(self, seconds):
        self.now_us += seconds * SECOND_US

    @rule()
    def the_wait_ends(self):
        self.now_us = max(self.now_us, self.state.until_us or 0)

    @rule()
    def a_call_asks(self):
        seen = look(self.state, self.now_us)
        state, answer = admit(self.state, KEY, self.breaker, self.now_us)
        assert answer == seen or (seen is None and isinstance(answer, Admitted))
        if isinstance(answer, Open):
            assert state is self.state
            assert answer.until_us > self.now_us
            return
        assert bool(answer.probe_until_us) == (self.opened_us is not None)
        if answer.probe_until_us:  # nobody else is probing, or is taken for dead
            waited = [end for probe, end in self.probes.items() if probe.epoch == state.epoch]
            assert all(end <= self.now_us for end in waited)
            self.probes[answer] = answer.probe_until_us
        self.state = state
        self.under_way.append((answer, self.changed))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "failed", "failed", "ignored"]))
    def a_call_ends(self, data, outcome):
        admitted, changed = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.state
        self.state, change = report(before, admitted, self.breaker, outcome, self.now_us, "down")
        self.probes.pop(admitted, None)
        if changed != self.changed:  # it began under another state of things: nothing is learned from it
            assert (self.state, change) == (before, None)
            return
        if admitted.probe_until_us:
            assert (change is None) == (outcome == "ignored")
            assert change is None or (change.until_us is None) == (outcome == "ok")
        elif outcome != "failed":
            assert change is None
        self._note(change)

    @rule()
    def somebody_resets_it(self):
        was_open = self.opened_us is not None
        self.state, change = reset(self.state, KEY)
        assert change == (Change(KEY, None) if was_open else None)
        self.changed += 1
        self.opened_us, self.failed_probes = None, 0

    def _note(self, change):
        if change is None:
            return
        self.changed += 1
        if change.until_us is None:
            self.opened_us, self.failed_probes = None, 0
            return
        self.failed_probes = 0 if self.opened_us is None else self.failed_probes + 1
        self.opened_us = self.now_us if self.opened_us is None else self.opened_us
        factor = min(2**self.failed_probes, WAIT_FACTOR_MAX)
        assert change.until_us == self.now_us + factor * int(self.breaker.recovery_s * SECOND_US)

    @invariant()
    def it_is_open_since_it_opened(self):
        assert (self.state.until_us is not None) == (self.opened_us is not None)
        if self.opened_us is not None:
            assert self.state.opened_us == self.opened_us
            assert self.state.probes_failed == self.failed_probes

    @invariant()
    def closed_it_has_seen_fewer_failures_in_a_row_than_open_it(self):
        if self.state.until_us is None and hasattr(self, "breaker"):
            assert self.state.consecutive < self.breaker.failures


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
