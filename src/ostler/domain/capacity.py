"""Limits that all workers share: how many calls of models at once, how many in a minute, and who goes first."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ostler.domain.scheduling import EVERYONE

MINUTE_US = 60_000_000
BURST_DIVISOR = 10
"""This part of what a rate allows may be used at once."""
LOOK_AGAIN_US = 250_000
"""When to ask again for a place that somebody may give back at any moment; each one ahead in line makes it later …"""
LOOK_AGAIN_MAX_US = 1_000_000
"""… up to this."""
PATIENCE_US = 2_000_000
"""Whoever stands in line keeps it for so long after the moment at which to ask again."""


class Limit(msgspec.Struct, frozen=True, gc=False):
    """At most `most` at once; or with `period_us`, at most so many in any period of this length, wherever it begins.

    A rate is kept by the generic cell rate algorithm (virtual scheduling, ITU-T Recommendation I.371, Annex A): `burst`
    may begin at once, and from then on one every `interval_us`. The interval is a little longer than an equal share of
    the period, so that burst and all that follows it within a period are not more than `most`.
    """

    name: str
    most: int
    period_us: int = 0

    @property
    def burst(self) -> int:
        return max(1, self.most // BURST_DIVISOR)

    @property
    def interval_us(self) -> int:
        """0 where it is not a rate."""
        return -(-self.period_us // (self.most - self.burst + 1))

    @property
    def slack_us(self) -> int:
        """How much earlier than evenly spaced a call may come."""
        return (self.burst - 1) * self.interval_us


class Place(msgspec.Struct, frozen=True, gc=False):
    """One place for `holder` under its claim `epoch`, which comes back by itself at `until_us`.

    Those who wait for one stand in line by `priority`, the higher first, and then by `since_us`.
    """

    holder: str
    epoch: int
    until_us: int
    since_us: int
    priority: int = 0

    @property
    def stay(self) -> tuple[str, int, int]:
        """What tells it from another place of the same holder, before or after."""
        return self.holder, self.epoch, self.since_us

    @property
    def rank(self) -> tuple[int, int, str]:
        return -self.priority, self.since_us, self.holder


class Wait(NamedTuple):
    """When to ask again, and which limit was in the way; 0 is not at all, because the place is there."""

    after_us: int
    limit: str


TAKEN = Wait(0, "")


class Seen(NamedTuple):
    """What is known of a limit, without the one who asks.

    `held` places are taken, `ahead` is how many stand in line before, and by `spent_us` all that was let through would
    have come if it had come evenly (GCRA's theoretical arrival time).
    """

    held: int
    ahead: int
    spent_us: int


def judge(limits: Sequence[Limit], seen: Sequence[Seen], now_us: int) -> Wait:
    """Whether a place is free under every one of these limits, or which of them has to be waited for the longest."""
    worst = TAKEN
    for limit, found in zip(limits, seen, strict=True):
        after_us = _wait_us(limit, found, now_us)
        if after_us > worst.after_us:
            worst = Wait(after_us, limit.name)
    return worst


def _wait_us(limit: Limit, seen: Seen, now_us: int) -> int:
    if not limit.period_us:
        is_free = seen.held + seen.ahead < limit.most
        return 0 if is_free else min(LOOK_AGAIN_MAX_US, LOOK_AGAIN_US * (1 + seen.ahead))
    early_us = _arrival_us(limit, seen.spent_us, now_us) - limit.slack_us - now_us
    ahead_us = seen.ahead * limit.interval_us
    return 0 if early_us + ahead_us <= 0 else max(early_us, min(LOOK_AGAIN_US, ahead_us))


def spend(limit: Limit, spent_us: int, now_us: int) -> int:
    """`spent_us` of a rate after one more was let through now."""
    return _arrival_us(limit, spent_us, now_us) + limit.interval_us


def _arrival_us(limit: Limit, spent_us: int, now_us: int) -> int:
    """When the next would come if all came evenly. Never later than can be, unless somebody has set the clock back."""
    return min(max(spent_us, now_us), now_us + limit.slack_us + limit.interval_us)


class Quota(msgspec.Struct, frozen=True):
    """How many calls of models may be under way at once, and how many may begin in a minute; None is any number."""

    model_calls: int | None = None
    model_calls_per_minute: int | None = None


class Quotas(msgspec.Struct, frozen=True):
    """What tenants, agents and providers may use. `*` is each of those that have nothing of their own.

    What is for an agent or a provider is for all tenants together.
    """

    tenants: Mapping[str, Quota] = {}
    agents: Mapping[str, Quota] = {}
    providers: Mapping[str, Quota] = {}

    def limits(self, *, tenant: str, agent: str, provider: str) -> tuple[Limit, ...]:
        """What a call of a model must find a place under. The names are those of the settings."""
        found = []
        for kind, quotas, name in (
            ("tenants", self.tenants, tenant),
            ("agents", self.agents, agent),
            ("providers", self.providers, provider),
        ):
            calls = _first(quotas, name, "model_calls")
            if calls is not None:
                found.append(Limit(f"{kind}.{name}.model_calls", calls))
            rate = _first(quotas, name, "model_calls_per_minute")
            if rate is not None:
                found.append(Limit(f"{kind}.{name}.model_calls_per_minute", rate, MINUTE_US))
        return tuple(found)

    def __bool__(self) -> bool:
        return bool(self.tenants or self.agents or self.providers)


def _first(quotas: Mapping[str, Quota], name: str, field: str) -> int | None:
    """What the table of this name says, or else that of all others."""
    for key in (name, EVERYONE):
        value: int | None = getattr(quotas.get(key), field, None)
        if value is not None:
            return value
    return None
