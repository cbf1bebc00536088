"""What operators took out of a store, as a stream of its own: that something is gone is never gone."""

from ostler.kernel.codec import Codec
from ostler.kernel.event import Event

HOUSEKEEPING = "housekeeping"
"""The stream of each tenant that these events stand in, its queue and its status. No agent's name may be this."""
ERASED = "erased"
"""The status of a session whose content was erased."""


class Remains(Event):
    """What is left of a session: how many events it had, and the hash of its last one, 64 hexadecimal digits.

    A file that `ostler export` wrote before can be proved to be that session by it.
    """

    session: str
    events: int
    head: str


class SessionsRemoved(Event, tag="sessions.removed"):
    """Sessions that had ended were deleted, with their bodies. `archive` names the file that holds them, if any."""

    sessions: tuple[Remains, ...]
    by: str
    because: str
    archive: str = ""


class SessionErased(Event, tag="session.erased"):
    """The content of all events of a session was erased, with its bodies; their order, times and hashes are left."""

    remains: Remains
    by: str
    because: str


class MemoriesErased(Event, tag="memories.erased"):
    """The content of these events of a `stream` of memories was erased; their order, times and hashes are left."""

    stream: str
    events: tuple[int, ...]
    by: str
    because: str


HousekeepingEvent = SessionsRemoved | SessionErased | MemoriesErased


def taken_away(event: HousekeepingEvent) -> tuple[Remains, ...]:
    """The sessions that were taken away."""
    match event:
        case SessionsRemoved():
            return event.sessions
        case SessionErased():
            return (event.remains,)
        case MemoriesErased():
            return ()


HOUSEKEEPING_CODEC: Codec[HousekeepingEvent] = Codec(HousekeepingEvent)
