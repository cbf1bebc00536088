"""The life of a worker, as a stream of its own: it starts, and it stops in order or is found to be lost."""

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


WorkerEvent = WorkerStarted | WorkerStopped | WorkerLost

WORKER_CODEC: Codec[WorkerEvent] = Codec(WorkerEvent)
