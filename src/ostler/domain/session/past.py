"""What the events of a session add to the past that questions of policies are about."""

from collections.abc import Callable

from ostler.domain.constraint.history import Outcome, Past
from ostler.domain.guard import called
from ostler.domain.session.events import (
    ModelCompleted,
    ModelFailed,
    ModelRequested,
    SessionEvent,
    ToolCompleted,
    ToolRequested,
)
from ostler.domain.tool import ToolSpec

OF_CALLS = (ModelRequested, ModelCompleted, ModelFailed, ToolRequested, ToolCompleted)
"""The events that add something."""


def grown(
    past: Past, event: SessionEvent, at_us: int, *, session: str, tool: Callable[[str], ToolSpec | None], model: str
) -> Past:
    """`past` after one more event of a session with this model, whose tools are found by their names."""
    match event:
        case ToolRequested():
            return past.begun(f"{session}/{event.call}", called(tool(event.tool), model), event.arguments)
        case ModelRequested():
            return past.begun(f"{session}/{event.call}", called(None, model), {})
        case ToolCompleted():
            return past.ended(f"{session}/{event.call}", at_us, _came_of(event))
        case ModelCompleted():
            return past.ended(f"{session}/{event.call}", at_us, "ok")
        case ModelFailed():
            return past.ended(f"{session}/{event.call}", at_us, "failed")
        case _:
            return past


def _came_of(event: ToolCompleted) -> Outcome:
    """What may have happened all the same is not known to have failed."""
    if event.ok:
        return "ok"
    return "unknown" if event.kind in ("unknown", "timeout", "cancelled") else "failed"
