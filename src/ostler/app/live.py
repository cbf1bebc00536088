"""Who carries what models say to those who watch, by the store that they share."""

from pathlib import Path

from ostler.app.plugins import LIVE, part
from ostler.ports import EventStore, LiveText


def live_text(url: str, store: EventStore) -> LiveText:
    """The live text of those who share the store at this address."""
    scheme, _, rest = url.partition(":")
    live: LiveText
    if scheme in ("postgresql", "postgres"):
        live = part(LIVE["postgres"], extra="postgres")(store.server)  # type: ignore[attr-defined]  # of PostgresStore
    elif scheme == "sqlite":
        live = part(LIVE["unix"])(Path(rest[3:]))
    else:
        live = part(LIVE["memory"])()
    return live
