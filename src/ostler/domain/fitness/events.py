"""The register of fitness: what was measured of a tenant's targets, who lowered them, and what followed."""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from ostler.domain.fitness.target import Measured
from ostler.kernel.codec import Codec
from ostler.kernel.event import Event

FITNESS = "fitness"
"""The stream of each tenant that these events stand in, its queue and its status. No agent's name may be this."""

Because = Literal["schedule", "session_end", "before", "after", "asked"]
"""Why a target was measured; `before` and `after` are of a call."""

KEPT = 60
"""Values of a target that are kept at hand, the newest."""


class FitnessMeasured(Event, tag="fitness.measured"):
    """What a target was found to be; see `Measured`. Of a call or the end of a session, which."""

    found: Measured
    because: Because
    at_us: int
    session: str = ""
    call: str = ""
    took_us: int = 0


class FitnessLowered(Event, tag="fitness.lowered"):
    """A call left a target worse than it was before it."""

    call: str
    tool: str
    before: Measured
    after: Measured
    session: str = ""


class FitnessFollowed(Event, tag="fitness.followed"):
    """What followed from a target that fails.

    `warned` operators, `halted` the agent (empty: the tenant), `vetoed` the start of a session with another model, or
    did not, because somebody wanted it all the same (`overridden`, by whom, and the reason).
    """

    target: str
    what: Literal["warned", "halted", "vetoed", "overridden"]
    at_us: int
    agent: str = ""
    session: str = ""
    by: str = ""
    reason: str = ""


class FitnessKept(Event, tag="fitness.kept"):
    """This worker measures what is to be measured by schedule, until then and as long as it lives."""

    by: str
    until_us: int


FitnessEvent = FitnessMeasured | FitnessLowered | FitnessFollowed | FitnessKept

FITNESS_CODEC: Codec[FitnessEvent] = Codec(FitnessEvent)


class Course(msgspec.Struct, frozen=True):
    """How a target has done: its `last` result, its values (oldest first), since when it fails, who lowered it last.

    `changed_by` is the session after whose call it was last found to be another than before it. `followed` is what
    followed since it fails.
    """

    last: FitnessMeasured
    values: tuple[tuple[int, float], ...] = ()
    failing_since_us: int | None = None
    changed_by: str = ""
    lowered: FitnessLowered | None = None
    followed: tuple[str, ...] = ()


class Standings(msgspec.Struct, frozen=True):
    """How the targets of a tenant stand, and who measures by schedule."""

    courses: Mapping[str, Course] = {}
    kept: FitnessKept | None = None


def evolve(state: Standings, events: Iterable[FitnessEvent]) -> Standings:
    """How things stand after these events."""
    courses, kept = dict(state.courses), state.kept
    for event in events:
        match event:
            case FitnessMeasured():
                courses[event.found.target] = _measured(courses.get(event.found.target), event)
            case FitnessLowered():
                if (course := courses.get(event.after.target)) is not None:
                    courses[event.after.target] = msgspec.structs.replace(course, lowered=event)
            case FitnessFollowed():
                if (course := courses.get(event.target)) is not None:
                    followed = tuple(dict.fromkeys((*course.followed, event.what)))
                    courses[event.target] = msgspec.structs.replace(course, followed=followed)
            case FitnessKept():
                kept = event
    return Standings(courses, kept)


def _measured(course: Course | None, event: FitnessMeasured) -> Course:
    found = event.found
    before = course or Course(event)
    values = before.values if found.value is None else (*before.values, (event.at_us, found.value))[-KEPT:]
    failing = before.failing_since_us
    if found.passed is not None:
        failing = None if found.passed else failing or event.at_us
    is_other = event.because == "after" and found.value != before.last.found.value
    return Course(
        event,
        values,
        failing,
        event.session if is_other else before.changed_by,
        before.lowered,
        before.followed if failing is not None else (),
    )


REPEATED_US = 3_600_000_000
"""A result that says nothing new is written again after this long."""


def is_news(course: Course | None, event: FitnessMeasured) -> bool:
    """Whether a result is to be written: nobody learns anything from one like that before it, within an hour.

    What was measured after a call, or because somebody asked, always is.
    """
    if course is None or event.because in ("after", "asked"):
        return True
    last, found = course.last.found, event.found
    if (last.passed, last.reason, last.goal) != (found.passed, found.reason, found.goal):
        return True
    if last.value is not None and found.value is not None and abs(found.value - last.value) > found.tolerance:
        return True
    return event.at_us - course.last.at_us >= REPEATED_US
