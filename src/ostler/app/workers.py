"""Wiring of what only a process needs that runs sessions; most commands only look at them."""

from collections.abc import Callable

import msgspec

from ostler.app.bootstrap import Parts
from ostler.domain.scheduling import WorkerSettings
from ostler.kernel.errors import OstlerError
from ostler.kernel.event import StreamId
from ostler.runtime.examiner import Examiner, GrantFault
from ostler.runtime.pasts import Pasts
from ostler.runtime.performer import Performer
from ostler.runtime.resilience.chain import Chain
from ostler.runtime.router import Learned, Router
from ostler.runtime.spending import Spending
from ostler.runtime.turns import Turns
from ostler.runtime.worker import Worker

Trouble = Callable[[StreamId | None, OstlerError], None]


def make_worker(
    parts: Parts, settings: WorkerSettings, trouble: Trouble, grant_fault: GrantFault | None = None
) -> Worker:
    """A worker that has not started. The limits of the project hold for it, unless it names caps of its own."""

    def tell(error: OstlerError) -> None:
        trouble(None, error)

    parts.keeper = parts.fitness(tell, lambda: worker.govern())
    parts.unshared = parts.trouble = tell
    performer = Performer(
        parts.models.provider,
        parts.tools,
        parts.blobs,
        parts.clock,
        parts.entropy,
        examiner=_examiner(parts, trouble, grant_fault),
        live=parts.live,
        chain=Chain(parts.settings.pressure, parts.circuits, warn=tell),
    )
    limits = parts.settings.limits
    if not settings.caps:
        settings = msgspec.structs.replace(settings, caps=limits.caps)
    turns = Turns(parts.limiter(), limits.quotas, parts.clock, trouble=trouble) if limits.quotas else None
    worker = Worker(
        journal=parts.journal,
        performer=performer,
        clock=parts.clock,
        entropy=parts.entropy,
        settings=settings,
        trouble=trouble,
        turns=turns,
        governor=parts.governor,
    )
    parts.circuits.on_change = worker.on_breaker
    return worker


def _examiner(parts: Parts, trouble: Trouble, grant_fault: GrantFault | None) -> Examiner:
    """What finds out about calls what their sessions do not know."""
    budgets = parts.settings.budgets.budgets
    return Examiner(
        parts.clock,
        hooks=parts.hooks,
        pasts=Pasts(parts.store),
        spending=Spending(parts.ledger, budgets, parts.clock, parts.journal.facts, trouble=trouble),
        grant_fault=grant_fault,
        detectors=parts.detectors,
        fitness=parts.keeper,
        router=Router(
            parts.clock,
            parts.entropy,
            choosers=parts.choosers,
            learned=Learned(parts.views, parts.clock),
            open_until=parts.circuits.open_until,
        ),
    )
