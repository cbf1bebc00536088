"""Looking at sessions that run: wait for events by name, never for time."""

from collections.abc import Callable
from typing import Any, TypeVar

from ostler import Session
from ostler.domain.session.events import SessionEvent

E = TypeVar("E")


async def reached(session: Session, kind: type[E], *, where: Callable[[E], bool] = lambda event: True) -> E:
    """The first event of this kind, as soon as it is there. Fails if the session ends without one."""
    seen = []
    async for happening in session.events():
        seen.append(type(happening.event).__name__)
        if isinstance(happening.event, kind) and where(happening.event):
            return happening.event
    raise AssertionError(f"it ended without {kind.__name__}: {seen}")


async def events(session: Session) -> list[SessionEvent]:
    return [happening.event async for happening in session.events(follow=False)]


async def only(session: Session, kind: type[E]) -> E:
    """The one event of this kind that there is."""
    (found,) = [event for event in await events(session) if isinstance(event, kind)]
    return found


def tag(event: Any) -> str:
    return str(type(event).__struct_config__.tag)
