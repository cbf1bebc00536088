"""The ledger in memory: the whole contract but durability."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ostler.domain.budget import (
    KEPT_ENDED_US,
    KEPT_SETTLED_US,
    Draw,
    Holder,
    Refused,
    Reserved,
    Seen,
    Total,
    Unit,
    counted,
    judge,
    settled,
)


@dataclass
class _Account:
    """`slots` are the sums of what leaves a window at a moment; `warned_us` is until when nobody else is warned."""

    used: int = 0
    reserved: int = 0
    warned_us: int = 0
    ends_us: int | None = 0
    slots: dict[int, int] = field(default_factory=dict)

    def slide(self, now_us: int) -> None:
        """Let go of what has left the window."""
        for moment in [moment for moment in self.slots if moment <= now_us]:
            self.used -= self.slots.pop(moment)

    def change(self, amount: int, until_us: int | None) -> None:
        """Count more or less; of what has left its window, nothing counts."""
        if until_us is None:
            self.used += amount
        elif until_us in self.slots:
            self.slots[until_us] += amount
            self.used += amount


@dataclass
class _Entry:
    """What one draw has taken; `until_us` is when it leaves the window, None where there is none."""

    account: _Account
    unit: str
    amount: int
    until_us: int | None
    is_warned: bool


@dataclass
class _Reservation:
    until_us: int
    entries: dict[tuple[str, str], _Entry]
    is_settled: bool = False


class MemoryLedger:
    """A `Ledger` that lives and dies with the process. Whoever shares the object shares the accounts."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._reservations: dict[Holder, _Reservation] = {}

    async def reserve(self, holder: Holder, draws: Sequence[Draw], *, now_us: int, until_us: int) -> Reserved | Refused:
        earlier = self._reservations.get(holder)
        if earlier is not None and earlier.is_settled:
            return Reserved()
        if not draws:
            await self.release(holder)
            return Reserved()
        held = earlier.entries if earlier is not None else {}
        verdict = judge(draws, [self._seen(draw, held.get((draw.tenant, draw.account)), now_us) for draw in draws])
        if isinstance(verdict, Reserved):
            await self.release(holder)
            entries = {
                (draw.tenant, draw.account): self._enter(draw, now_us, draw.account in verdict.warnings)
                for draw in draws
            }
            self._reservations[holder] = _Reservation(until_us, entries)
        return verdict

    async def settle(self, holder: Holder, used: Mapping[Unit, int] | None, *, now_us: int) -> None:
        reservation = self._reservations.get(holder)
        if reservation is None or reservation.is_settled:
            return
        for entry in reservation.entries.values():
            entry.account.reserved -= entry.amount
            entry.account.change(settled(entry.unit, entry.amount, used) - entry.amount, entry.until_us)
        self._reservations[holder] = _Reservation(now_us + KEPT_SETTLED_US, {}, is_settled=True)

    async def release(self, holder: Holder) -> None:
        reservation = self._reservations.get(holder)
        if reservation is not None and not reservation.is_settled:
            for entry in reservation.entries.values():
                entry.account.reserved -= entry.amount
                entry.account.change(-entry.amount, entry.until_us)
            del self._reservations[holder]

    async def overdue(self, *, now_us: int, again_us: int, limit: int = 100) -> list[Holder]:
        late = [
            (reservation.until_us, holder)
            for holder, reservation in self._reservations.items()
            if not reservation.is_settled and reservation.until_us <= now_us
        ]
        found = [holder for _, holder in sorted(late)[:limit]]
        for holder in found:
            self._reservations[holder].until_us = again_us
        return found

    async def totals(self, tenant: str, accounts: Sequence[str], *, now_us: int) -> dict[str, Total]:
        found = {}
        for name in accounts:
            account = self._accounts.get((tenant, name))
            if account is not None:
                used = account.used - sum(amount for moment, amount in account.slots.items() if moment <= now_us)
                found[name] = Total(used, min(used, account.reserved))
        return {name: total for name, total in found.items() if total.used}

    async def accounts(self, tenant: str, *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
        names = [name for (owner, name), account in self._accounts.items() if owner == tenant and account.used]
        # Code points sort as their UTF-8 does.
        return sorted(name for name in names if name.startswith(prefix) and name > after)[:limit]

    async def forget(self, *, now_us: int) -> None:
        for holder, reservation in list(self._reservations.items()):
            if reservation.is_settled and reservation.until_us <= now_us:
                del self._reservations[holder]
        for key, account in list(self._accounts.items()):
            is_over = account.ends_us is not None and account.ends_us + KEPT_ENDED_US <= now_us
            if is_over and not account.reserved:
                del self._accounts[key]

    def _seen(self, draw: Draw, own: _Entry | None, now_us: int) -> Seen:
        account = self._accounts.get((draw.tenant, draw.account))
        if account is None:
            return Seen(0, False)
        account.slide(now_us)
        if own is None:
            return Seen(account.used, account.warned_us > now_us)
        is_counted = own.until_us is None or own.until_us in account.slots
        is_warned = account.warned_us > now_us and not own.is_warned
        return Seen(account.used - (own.amount if is_counted else 0), is_warned)

    def _enter(self, draw: Draw, now_us: int, is_warned: bool) -> _Entry:
        account = self._accounts.setdefault((draw.tenant, draw.account), _Account())
        until_us = counted(draw, now_us) if draw.window_us else None
        ends_us = until_us or draw.ends_us
        account.ends_us = None if ends_us is None or account.ends_us is None else max(account.ends_us, ends_us)
        if is_warned:
            account.warned_us = counted(draw, now_us)
        if until_us is not None:
            account.slots.setdefault(until_us, 0)
        account.reserved += draw.amount
        account.change(draw.amount, until_us)
        return _Entry(account, draw.unit, draw.amount, until_us, is_warned)
