"""Circuit breakers: who failed too often of late is left alone for a while, and then tried with one call.

closed → open → (after the wait) one probe at a time → closed again, or open for twice as long.

Everything here is a function of a state and a moment; where states are kept is the port `Breakers`.
"""

from typing import Literal, NamedTuple

import msgspec

from ostler.domain.tool import FailureKind
from ostler.kernel.errors import ProviderError, RateLimited

Kind = Literal["provider", "tool"]
Outcome = Literal["ok", "failed", "ignored"]
"""`ok`: it did its work, `failed`: it is not well, `ignored`: the call says nothing about how it is."""

WAIT_FACTOR_MAX = 64
"""The wait doubles with every failed probe, up to so many times the first."""
PUT_BACK_US = 60_000_000
"""How much the clocks of workers may differ; more than that, and somebody has put one back."""
PROBED_AGAIN_US = 5_000_000
"""When to ask again while a probe is under way, at the latest."""


class Key(NamedTuple):
    """Whose breaker it is: of a provider or a tool, for one tenant. Nothing crosses a tenant."""

    tenant: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Breaker(msgspec.Struct, frozen=True):
    """When it opens: after `failures` in a row, or when of at least `calls_min` calls of the last `window_s` seconds
    the share `rate` failed. (The window moves in halves: what counts are the last 0.5 to 1 windows.)

    Open, it lets nothing pass for `recovery_s`, and after each failed probe for twice as long, up to 64 times. A probe
    of which nothing is heard for `probe_s` is taken for dead, and another one may be made.
    """

    failures: int = 5
    rate: float = 0.5
    calls_min: int = 20
    window_s: float = 60.0
    recovery_s: float = 30.0
    probe_s: float = 60.0

    def wait_us(self, probes_failed: int) -> int:
        """How long it lets nothing pass after so many failed probes in a row."""
        return int(self.recovery_s * 1e6) * min(1 << min(probes_failed, 32), WAIT_FACTOR_MAX)


class State(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known about one key. Of calls that were let pass in an earlier `epoch`, nothing is learned any more.

    `until_us` is None while it is closed; open, nothing passes before it. `opened_us` is since when it is open, and
    `because` why. `probe_until_us` is how long the probe that is under way is waited for, 0 if there is none.
    `half`, `calls`, `failed`, and those of the half before, are the window.
    """

    epoch: int = 0
    consecutive: int = 0
    half: int = 0
    calls: int = 0
    failed: int = 0
    calls_before: int = 0
    failed_before: int = 0
    until_us: int | None = None
    opened_us: int = 0
    probes_failed: int = 0
    probe_until_us: int = 0
    because: str = ""


CLOSED = State()


class Admitted(NamedTuple):
    """A call that may begin. What comes of it is reported with this; `probe_until_us` is 0 unless it is a probe."""

    key: Key
    epoch: int
    probe_until_us: int = 0


class Open(NamedTuple):
    """A call may not begin: when to ask again, why the breaker is open, and since when."""

    until_us: int
    because: str
    opened_us: int


class Change(NamedTuple):
    """A breaker opened, until then at least, or (None) closed."""

    key: Key
    until_us: int | None
    because: str = ""


def admit(state: State, key: Key, settings: Breaker, now_us: int) -> tuple[State, Admitted | Open]:
    """Whether a call may begin. Of those who ask at an open breaker whose wait is over, exactly one may: the probe."""
    if state.until_us is None:
        return state, Admitted(key, state.epoch)
    state = _in_this_time(state, now_us)
    refused = look(state, now_us)
    if refused is not None:
        return state, refused
    probe_until_us = now_us + max(1, int(settings.probe_s * 1e6))
    probing = msgspec.structs.replace(state, probe_until_us=probe_until_us)
    return probing, Admitted(key, state.epoch, probe_until_us)


def look(state: State, now_us: int) -> Open | None:
    """What a call that asks now is told if it may not begin."""
    state = _in_this_time(state, now_us)
    if state.until_us is None:
        return None
    until_us = state.until_us
    if now_us >= until_us:  # a probe may end well at any moment: whoever waits for it does not wait to its last one
        until_us = min(state.probe_until_us, now_us + PROBED_AGAIN_US)
    return Open(until_us, state.because, state.opened_us) if now_us < until_us else None


def _in_this_time(state: State, now_us: int) -> State:
    """As it is, unless the clock was put back since it opened: then the wait is taken to be over."""
    if state.until_us is None or now_us >= state.opened_us - PUT_BACK_US:
        return state
    return msgspec.structs.replace(state, until_us=now_us, opened_us=now_us, probe_until_us=0)


def report(
    state: State, admitted: Admitted, settings: Breaker, outcome: Outcome, now_us: int, because: str = ""
) -> tuple[State, Change | None]:
    """What is known after the outcome of a call that was let pass."""
    if admitted.epoch != state.epoch:  # it began before the breaker opened or closed
        return state, None
    if state.until_us is None:
        return _learned(state, admitted.key, settings, outcome, now_us, because)
    match outcome:
        case "ok":
            return reset(state, admitted.key)
        case "failed":
            failed = state.probes_failed + 1
            until_us = now_us + settings.wait_us(failed)
            said = f"the probe failed: {because}" if because else "the probe failed"
            opened = State(
                state.epoch + 1,
                until_us=until_us,
                opened_us=state.opened_us,
                probes_failed=failed,
                because=said,
            )
            return opened, Change(admitted.key, until_us, said)
        case "ignored":  # it is as it was before the probe, unless that was given up and another one is under way
            if admitted.probe_until_us != state.probe_until_us:
                return state, None
            return msgspec.structs.replace(state, probe_until_us=0), None


def reset(state: State, key: Key) -> tuple[State, Change | None]:
    """Closed, with nothing known. What is under way will not be learned from."""
    return State(state.epoch + 1), None if state.until_us is None else Change(key, None)


def _learned(
    state: State, key: Key, settings: Breaker, outcome: Outcome, now_us: int, because: str
) -> tuple[State, Change | None]:
    """A closed breaker, after one more call."""
    if outcome == "ignored":
        return state, None
    half = now_us // max(1, int(settings.window_s * 500_000))
    calls, failed, calls_before, failed_before = state.calls, state.failed, state.calls_before, state.failed_before
    if half > state.half:  # a clock that was put back counts in the half in which it was
        is_next = half == state.half + 1
        calls_before, failed_before = (calls, failed) if is_next else (0, 0)
        calls = failed = 0
    else:
        half = state.half
    if outcome == "ok":
        return State(state.epoch, 0, half, calls + 1, failed, calls_before, failed_before), None
    consecutive, all_calls, all_failed = state.consecutive + 1, calls + calls_before + 1, failed + failed_before + 1
    if consecutive >= settings.failures:
        why = f"{consecutive} failures in a row"
    elif all_calls >= settings.calls_min and all_failed >= settings.rate * all_calls:
        why = f"{all_failed} of {all_calls} calls failed"
    else:
        return State(state.epoch, consecutive, half, calls + 1, failed + 1, calls_before, failed_before), None
    said = f"{why}, the last: {because}" if because else why
    until_us = now_us + settings.wait_us(0)
    return State(state.epoch + 1, until_us=until_us, opened_us=now_us, because=said), Change(key, until_us, said)


def outcome_of_model(error: BaseException | None) -> Outcome:
    """What a model call that ended with this error, or with a reply (None), says of its provider.

    Not to be reached, no answer in time, overload, a broken or garbled reply: it is not well. Asked to slow down, it
    is well and we are too quick: that is for limits and waits, and an open breaker would only turn a slower pace into
    an outage. A request that it refuses was understood and answered.
    """
    match error:
        case None:
            return "ok"
        case RateLimited():
            return "ignored"
        case ProviderError():
            return "failed" if error.retryable else "ok"
        case _:
            return "ignored"


def outcome_of_tool(failure: FailureKind | None) -> Outcome:
    """What an outcome with this kind of failure (None: it succeeded) says of its tool.

    A tool that says that the arguments are wrong, or that there is no such thing, works.
    """
    match failure:
        case "transient" | "timeout":
            return "failed"
        case "cancelled" | "unknown" | "blocked":
            return "ignored"
        case None | "not_found" | "invalid" | "permanent":
            return "ok"
