"""The streams of a tenant that are no sessions: what was decided, by people and by those who keep the store."""

from ostler.domain.audit import AUDIT
from ostler.domain.boot import WORKER_QUEUE
from ostler.domain.changes import MODELS
from ostler.domain.directory import IDENTITY
from ostler.domain.fitness.events import FITNESS
from ostler.domain.governance import GOVERNANCE
from ostler.domain.housekeeping import HOUSEKEEPING
from ostler.domain.memory.scope import MEMORY

REGISTERS = (AUDIT, FITNESS, GOVERNANCE, HOUSEKEEPING, IDENTITY, MEMORY, MODELS)
"""Their names, which are their queues and statuses as well."""
TRIALS = "trials"
"""The queue of sessions that try another model, whosever past they share."""
RESERVED = (*REGISTERS, WORKER_QUEUE, TRIALS)
"""What no agent may be called, because the queues of its sessions and of these would be one."""
