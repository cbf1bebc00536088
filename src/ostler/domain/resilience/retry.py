"""Whether another attempt is made of what has failed, and when."""

import msgspec

RETRY_BASE_S = 1.0
RETRY_MAX_S = 60.0

UNBEGUN = frozenset({"shed", "circuit_open"})
"""After these the call has certainly not begun: no attempt was made, and any effect class may be tried later."""


class Backoff(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is otherwise after failures with this error code (`rate_limited`); None is as after all others."""

    code: str
    base_s: float | None = None
    cap_s: float | None = None
    attempts: int | None = None


class Retries(msgspec.Struct, frozen=True, omit_defaults=True):
    """How failed attempts of a call are followed by others.

    The first comes after up to `base_s`, and each further one after up to twice as long, at most `cap_s`. None is made
    later than `for_s` after the first failure, and so none for which a provider asks to wait longer. `kinds` say what
    is otherwise for some failures.
    """

    base_s: float = RETRY_BASE_S
    cap_s: float = RETRY_MAX_S
    for_s: float = 3600.0
    kinds: tuple[Backoff, ...] = ()

    def attempts(self, code: str, most: int) -> int:
        """How many attempts there are, the first one included; `most` unless this kind of failure has its own."""
        own = self._kind(code)
        return most if own is None or own.attempts is None else own.attempts

    def delay_s(self, code: str, failures: int, chance: float, *, retry_after_s: float | None = None) -> float:
        """How long to wait after this many failures in a row."""
        own = self._kind(code) or _AS_ALL
        base = self.base_s if own.base_s is None else own.base_s
        cap = self.cap_s if own.cap_s is None else own.cap_s
        return retry_delay_s(failures, chance, retry_after_s=retry_after_s, base_s=base, cap_s=cap)

    def again_us(
        self,
        code: str,
        failures: int,
        chance: float,
        *,
        now_us: int,
        since_us: int = 0,
        retry_after_s: float | None = None,
    ) -> int | None:
        """The moment of the next attempt; None if it would be too late. `since_us` is when the first one failed."""
        again = now_us + int(self.delay_s(code, failures, chance, retry_after_s=retry_after_s) * 1_000_000)
        return again if again <= (since_us or now_us) + int(self.for_s * 1_000_000) else None

    def _kind(self, code: str) -> Backoff | None:
        for kind in self.kinds:
            if kind.code == code:
                return kind
        return None


_AS_ALL = Backoff("")


def retry_delay_s(
    attempt: int,
    chance: float,
    *,
    retry_after_s: float | None = None,
    base_s: float = RETRY_BASE_S,
    cap_s: float = RETRY_MAX_S,
) -> float:
    """Seconds before attempt `attempt + 1`, after `attempt` (1-based) has failed.

    Full jitter over an exponential: `chance` in [0, 1) picks from it (M. Brooker, "Exponential Backoff and Jitter",
    AWS 2015). `retry_after_s` is what the other side asks for, and is honoured; the jitter of a first failure comes on
    top, so that not all who were told the same come back at the same moment.
    """
    if retry_after_s is not None:
        return max(0.0, retry_after_s) + chance * min(cap_s, base_s)
    return chance * min(cap_s, base_s * 2.0 ** min(attempt - 1, 64))
