"""What commands have in common that govern a tenant, or the whole store: whose affairs, and in whose name."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

from ostler.app.governance import Governing
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal
from ostler.domain.identity import DEFAULT_TENANT, Principal
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.errors import NotAllowed

F = TypeVar("F", bound=Callable[..., Any])


class Realm(NamedTuple):
    """What is governed: a tenant, or (`*`) the whole store; and by whom."""

    tenant: str
    by: Principal

    @property
    def is_everything(self) -> bool:
        return self.tenant == EVERYONE

    @property
    def name(self) -> str:
        """As the subject of a sentence."""
        return "Everything" if self.is_everything else f"The tenant {self.tenant}"

    def governing(self, runtime: Runtime) -> Governing:
        """The governance of it."""
        return Governing(runtime.parts, self.tenant, self.by)


def realm_options(command: F) -> F:
    """Adds `--tenant`, `--all` and `--as`; the command gets them as `tenant`, `everywhere`, `acting`."""
    for option in (
        acting_option,
        click.option("--all", "everywhere", is_flag=True, help="The sessions of all tenants of the store."),
        click.option("--tenant", metavar="NAME", help="Whose sessions; else those of the tenant of whoever acts."),
    ):
        command = option(command)
    return command


async def realm_of(runtime: Runtime, acting: str | None, tenant: str | None, everywhere: bool) -> Realm:
    """What is to be governed, by what was given with the options.

    Somebody of the tenant `default` may name others, and everything. Raises `NotAllowed` for anybody else who does,
    and `NotFound` if there is nobody of the name.
    """
    by = await acting_principal(runtime, acting)
    wanted = EVERYONE if everywhere else tenant or by.tenant
    if wanted != by.tenant and by.tenant != DEFAULT_TENANT:
        raise NotAllowed(
            f"{by.id} is of the tenant {by.tenant}, and governs nothing beyond it.",
            hint=f"Only somebody of the tenant {DEFAULT_TENANT!r} can.",
        )
    return Realm(wanted, by)
