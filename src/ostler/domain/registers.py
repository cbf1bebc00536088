"""The streams of a tenant that are no sessions: what was decided, by people and by those who keep the store."""

from ostler.domain.audit import AUDIT
from ostler.domain.boot import WORKER_QUEUE
from ostler.domain.directory import IDENTITY
from ostler.domain.governance import GOVERNANCE
from ostler.domain.housekeeping import HOUSEKEEPING

REGISTERS = (AUDIT, GOVERNANCE, HOUSEKEEPING, IDENTITY)
"""Their names, which are their queues and statuses as well."""
RESERVED = (*REGISTERS, WORKER_QUEUE)
"""What no agent may be called, because the queues of its sessions and of these would be one."""
