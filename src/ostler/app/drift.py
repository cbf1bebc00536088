"""Comparing what an agent did before and after a change: finds the changes and the sessions on both sides of one."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal

import msgspec

from ostler.app.bootstrap import Parts
from ostler.app.plugins import STATISTICS, part
from ostler.domain.changes import differences
from ostler.domain.drift import SESSIONS_MIN, Comparison, Summary, Version, compare, summarise
from ostler.domain.identity import DEFAULT_TENANT
from ostler.domain.session.state import ENDED
from ostler.kernel.errors import Conflict, Erased, NotFound, StoreCorrupt, UnknownEvent, UsageError
from ostler.kernel.event import StreamId, moment, timestamp

PAGE = 100
SESSIONS_MAX = 5_000
"""Sessions that are read, the newest."""

Kind = Literal["recorded", "served", "fingerprint"]


class Change(msgspec.Struct, frozen=True):
    """Something about the model of an agent has changed, first seen in this session.

    `recorded`: a session was started with another model, or with other settings. `served`: the provider answers with
    another model than before when it is asked for the same one; `fingerprint`: with the same, configured otherwise.
    """

    at: str
    kind: Kind
    what: str
    session: str
    at_us: int


class Sessions(msgspec.Struct, frozen=True):
    """The sessions of an agent that have ended, oldest first. Forks and trials are none of them.

    The content of `unreadable` ones is erased, damaged, or of another version. `is_cut`: there are more, which are
    older.
    """

    agent: str
    summaries: tuple[Summary, ...]
    unreadable: int = 0
    is_cut: bool = False


class Side(msgspec.Struct, frozen=True):
    """The sessions on one side: which they are, how many, when they started, and who answered in them."""

    which: str
    sessions: int
    first: str
    last: str
    drivers: tuple[str, ...]
    versions: tuple[str, ...]


class Drift(msgspec.Struct, frozen=True):
    """What is different about an agent. `change` is what was compared around, if it was that."""

    agent: str
    change: Change | None
    before: Side
    after: Side
    comparison: Comparison
    unreadable: int = 0
    is_cut: bool = False


async def sessions_of(
    parts: Parts,
    agent: str,
    *,
    tenant: str = DEFAULT_TENANT,
    since_us: int = 0,
) -> Sessions:
    """What the sessions of `agent` (coder, or coder@3) came to that started since a moment."""
    found: list[Summary] = []
    unreadable = read = 0
    name, _, version = agent.partition("@")
    async for stream in _ended(parts, tenant, name):
        if read == SESSIONS_MAX:
            return Sessions(agent, tuple(reversed(found)), unreadable, is_cut=True)
        read += 1
        try:
            facts = await parts.journal.facts(stream)
        except (Erased, StoreCorrupt, UnknownEvent, NotFound):
            unreadable += 1
            continue
        if facts[0][0] < since_us:
            break
        summary = summarise(facts)
        if summary is not None and (not version or summary.agent == agent):
            found.append(summary)
    return Sessions(agent, tuple(sorted(found, key=lambda one: one.started_us)), unreadable)


async def _ended(parts: Parts, tenant: str, agent: str) -> AsyncIterator[StreamId]:
    before: int | None = None
    while page := await parts.store.streams(
        tenant, prefix="ses_", statuses=ENDED, queue=agent, before=before, limit=PAGE
    ):
        for info in page:
            yield info.stream
        before = page[-1].number


async def changes_of(parts: Parts, sessions: Sessions, *, tenant: str = DEFAULT_TENANT) -> list[Change]:
    """Every change that was recorded, and every one that the replies in these sessions show, oldest first."""
    recorded = [
        Change(timestamp(at_us), "recorded", ", ".join(differences(event.before, event.after)), event.session, at_us)
        for at_us, event in await parts.changes.all(tenant, sessions.agent.partition("@")[0])
    ]
    return sorted([*recorded, *_served(sessions.summaries)], key=lambda change: change.at_us)


def _served(summaries: Sequence[Summary]) -> list[Change]:
    """Where a version answers for the first time, when another one has answered for the same model before."""
    seen: dict[str, list[Version]] = {}
    found = []
    replies = [(span[0], version, one) for one in summaries for version, span in one.versions.items()]
    for at_us, version, one in sorted(replies, key=lambda reply: reply[0]):
        known = seen.setdefault(version.asked, [])
        if known and version not in known:
            kind: Kind = "fingerprint" if version.served in [other.served for other in known] else "served"
            what = f"{version.asked}: {known[-1]} to {version}"
            found.append(Change(timestamp(at_us), kind, what, one.session, at_us))
        if version not in known:
            known.append(version)
    return found


async def drift(
    parts: Parts,
    sessions: Sessions,
    *,
    before: str | None = None,
    after: str | None = None,
    tenant: str = DEFAULT_TENANT,
) -> Drift:
    """Compare the sessions before and after the last change, or those that `before` and `after` name.

    Each is a model, a moment (RFC 3339, or a date; UTC), or an event (SESSION, or SESSION/SEQ); if only one is given,
    the other side is all the rest. Raises `Conflict` if there is no change or there are too few sessions on a side,
    `ConfigurationError` if the library is missing that does the tests.
    """
    tests = part(STATISTICS, extra="statistics")()
    change: Change | None = None
    if before is None and after is None:
        change, old, new = _around_the_last(await changes_of(parts, sessions, tenant=tenant), sessions)
        sides = f"before {change.at[:19]}Z", f"since {change.at[:19]}Z"
    else:
        old, new = await _named(parts, sessions, before, after, tenant)
        sides = f"by --before {before}" if before else "all others", f"by --after {after}" if after else "all others"
    for which, side in zip(sides, (old, new), strict=True):
        if len(side) < SESSIONS_MIN:
            raise Conflict(
                f"Too few sessions of {sessions.agent} have ended to compare: {len(side)} {which}.",
                hint=f"It takes {SESSIONS_MIN} on each side; --since reads further back, --before and --after choose.",
            )
    found = compare(old, new, tests)
    return Drift(
        sessions.agent, change, _side(sides[0], old), _side(sides[1], new), found, sessions.unreadable, sessions.is_cut
    )


def _around_the_last(changes: Sequence[Change], sessions: Sessions) -> tuple[Change, list[Summary], list[Summary]]:
    """The last change that is more than another fingerprint; the sessions since, and those back to the one before."""
    large = [change for change in changes if change.kind != "fingerprint"]
    if not large:
        raise Conflict(
            f"The model of {sessions.agent} has not changed.",
            hint="--before and --after name what to compare: a model, a date, or an event.",
        )
    last, earliest = large[-1], large[-2].at_us if len(large) > 1 else 0
    moments = {one.session: _first_us(one) if last.kind == "served" else one.started_us for one in sessions.summaries}
    old = [one for one in sessions.summaries if earliest <= moments[one.session] < last.at_us]
    return last, old, [one for one in sessions.summaries if moments[one.session] >= last.at_us]


def _first_us(one: Summary) -> int:
    """When a model first answered in a session."""
    return min((first_us for first_us, _, _ in one.versions.values()), default=one.started_us)


async def _named(
    parts: Parts, sessions: Sessions, before: str | None, after: str | None, tenant: str
) -> tuple[list[Summary], list[Summary]]:
    old = await _chosen(parts, sessions, before, tenant, is_after=False) if before else None
    new = await _chosen(parts, sessions, after, tenant, is_after=True) if after else None
    if old is None or new is None:
        chosen = {one.session for one in (old or new or [])}
        rest = [one for one in sessions.summaries if one.session not in chosen]
        old, new = rest if old is None else old, rest if new is None else new
    if twice := sorted({one.session for one in old} & {one.session for one in new}):
        raise UsageError(f"{len(twice)} sessions are on both sides, such as {twice[0]}.")
    return old, new


async def _chosen(parts: Parts, sessions: Sessions, text: str, tenant: str, *, is_after: bool) -> list[Summary]:
    """The sessions that one side is named by."""
    since_us = await _moment(parts, text, tenant)
    if since_us is not None:
        return [one for one in sessions.summaries if (one.started_us >= since_us) is is_after]
    found = [one for one in sessions.summaries if text in _models(one)]
    if not found:
        names = sorted({str(one.driver) for one in sessions.summaries})
        raise NotFound(
            f"No session of {sessions.agent} was driven by {text!r}.",
            hint=f"There are: {', '.join(names) or 'none'}. A moment is written as 2026-03-31 or 2026-03-31T12:00Z.",
        )
    return found


async def _moment(parts: Parts, text: str, tenant: str) -> int | None:
    """The moment that a text names, in microseconds since 1970; None if it names none."""
    if text.startswith("ses_"):
        name, _, seq = text.partition("/")
        if seq and not seq.isdecimal():
            raise UsageError(f"{text!r} is no event.", hint="Write SESSION or SESSION/SEQ.")
        facts = await parts.journal.facts(StreamId(tenant, name))
        number = int(seq or 1)
        if not 1 <= number <= len(facts):
            raise NotFound(f"{name} has no event {number}.", hint=f"Its last one is {len(facts)}.")
        return facts[number - 1][0]
    return moment(text)


def _models(one: Summary) -> set[str]:
    """What the model of a session may be called by."""
    answered = {name for version in one.versions for name in (version.asked, version.served)}
    return {str(one.driver), f"{one.driver.model.provider}:{one.driver.model.name}", one.driver.model.name, *answered}


def _side(which: str, side: Sequence[Summary]) -> Side:
    drivers = dict.fromkeys(str(one.driver) for one in side)
    versions = dict.fromkeys(str(version) for one in side for version in one.versions)
    return Side(
        which, len(side), timestamp(side[0].started_us), timestamp(side[-1].started_us), tuple(drivers), tuple(versions)
    )
