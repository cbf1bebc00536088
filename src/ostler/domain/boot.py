"""The life of a worker, as a stream of its own: it starts, and it stops in order or is found to be lost.

In between stand the breakers of its own that open and close, so that others can see them.
"""

from ostler.domain.resilience.breaker import Kind
from ostler.kernel.codec import Codec
from ostler.kernel.event import Event

WORKER_QUEUE = "workers"
"""The queue of worker streams. No session runs there, since no agent's name may be this."""


class WorkerStarted(Event, tag="worker.started"):
    """`found_lost` are the workers of this host that this one found dead without an end."""

    host: str
    pid: int
    version: str
    found_lost: tuple[str, ...] = ()


class WorkerStopped(Event, tag="worker.stopped"):
    """A clean end: nothing was under way any more, or was stopped and recorded."""

    reason: str


class WorkerLost(Event, tag="worker.lost"):
    """The process was gone, and had not said goodbye. `by` is the worker that noticed."""

    by: str


class BreakerOpened(Event, tag="breaker.opened"):
    """For this tenant, this worker asks nothing of a provider or tool before `until_us`, and then tries one call.

    `kind` is `provider` or `tool`.
    """

    tenant: str
    kind: Kind
    name: str
    until_us: int
    because: str = ""


class BreakerClosed(Event, tag="breaker.closed"):
    """It is asked again."""

    tenant: str
    kind: Kind
    name: str


WorkerEvent = WorkerStarted | WorkerStopped | WorkerLost | BreakerOpened | BreakerClosed

WORKER_CODEC: Codec[WorkerEvent] = Codec(WorkerEvent)
