"""How long to wait before another attempt."""

RETRY_BASE_S = 1.0
RETRY_MAX_S = 60.0


def retry_delay_s(attempt: int, chance: float, *, retry_after_s: float | None = None) -> float:
    """Seconds before attempt `attempt + 1`, after `attempt` (1-based) has failed.

    `retry_after_s` is what the other side asks for, and is honoured. Otherwise full jitter over an exponential of base
    1 s, at most 60 s: `chance` in [0, 1) picks from it (M. Brooker, "Exponential Backoff and Jitter", AWS 2015).
    """
    if retry_after_s is not None:
        return max(0.0, retry_after_s)
    return chance * min(RETRY_MAX_S, RETRY_BASE_S * 2.0 ** min(attempt - 1, 32))
