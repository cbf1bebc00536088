"""Lists of sessions as of now: from the rows of the view `sessions`, and from the log where a row is not there yet."""

from collections.abc import Sequence

from ostler.domain.housekeeping import ERASED
from ostler.domain.session.state import State
from ostler.kernel.errors import Erased, StoreCorrupt, UnknownEvent
from ostler.kernel.event import Record
from ostler.ports import StreamInfo, ViewStore
from ostler.runtime.journal import PAGE, QUARANTINED, Journal
from ostler.views.session_rows import SESSIONS, evolve, view_of
from ostler.views.sessions import SessionView, unreadable, view


async def session_views(journal: Journal, views: ViewStore, infos: Sequence[StreamInfo]) -> list[SessionView]:
    """These sessions of one tenant, in this order. Right whether a projector runs or not, and quick if one has run."""
    if not infos:
        return []
    names = [info.stream.name for info in infos]
    rows = await views.rows(SESSIONS.id, infos[0].stream.tenant, names)
    return [await _view(journal, info, rows.get(info.stream.name)) for info in infos]


async def _view(journal: Journal, info: StreamInfo, body: bytes | None) -> SessionView:
    """One session of a list; one that cannot be read must not hide the others."""
    seen = None
    if body is not None and info.standing.status not in (QUARANTINED, ERASED):
        seen = await _from_row(journal, info, body)
    try:
        return seen or view(await _state(journal, info))
    except (Erased, StoreCorrupt, UnknownEvent) as error:
        return unreadable(info.stream.name, info.standing.queue, info.standing.status, error.message)


async def _from_row(journal: Journal, info: StreamInfo, body: bytes) -> SessionView | None:
    """What the row shows, once the events after it are folded; None if the log itself is to be asked."""
    store = journal.store
    try:
        row = SESSIONS.rows.unpack(body)
    except StoreCorrupt:
        return None
    while row.state is not None and row.seq < info.version:
        records = await store.read(info.stream, after=row.seq, limit=PAGE)
        if not records:
            break
        for record in records:
            row = evolve(row, record).row or row
    found: dict[int, Record] = {}
    for seq in row.elsewhere.values():
        found |= {record.seq: record for record in await store.read(info.stream, after=seq - 1, limit=1)}
    return view_of(row, found)


async def _state(journal: Journal, info: StreamInfo) -> State:
    loaded = await journal.load(info.stream)
    assert loaded.state is not None
    return loaded.state
