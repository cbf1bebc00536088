"""How long a worker's claims hold, and how they are made to hold on."""

import msgspec

from ostler.ports import Claim, Clock, EventStore


class Lease:
    """The claims of `worker` hold for `duration_s` after its last sign of life.

    Once it has run out, others may have taken its sessions: whoever was silent for so long, because its event loop
    stood still or it was stopped, must not begin anything before it has made sure that a session is still its own.
    """

    def __init__(self, store: EventStore, clock: Clock, worker: str, *, duration_s: float) -> None:
        self._store = store
        self._clock = clock
        self._worker = worker
        self._duration_us = int(duration_s * 1_000_000)
        self._until_us = 0
        self.lapses = 0
        """How often it had run out when it was renewed: what was claimed before may be somebody else's since."""

    @property
    def has_run_out(self) -> bool:
        return self._clock.now_us() >= self._until_us

    async def renew(self) -> None:
        """Give a sign of life."""
        until_us = self._clock.now_us() + self._duration_us
        self.lapses += self._until_us > 0 and self.has_run_out
        await self._store.beat(self._worker, until_us=until_us)
        self._until_us = until_us

    async def vouch(self, claim: Claim) -> Claim:
        """A session whose workers died before gets on now: earlier attempts do not count any more."""
        await self._store.vouch(self._worker, [claim.stream])
        return msgspec.structs.replace(claim, attempts=1)
