"""Who may act: the principals of a tenant, with their scopes and roles."""

from collections.abc import Callable, Coroutine
from typing import Any

import click
import msgspec

from ostler.app.identity import Identity, identity_of
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, using_runtime
from ostler.cli.output import Format, Rows, blocks, emit, output_options, say
from ostler.domain.directory import Directory, IdentityEvent
from ostler.domain.identity import Principal, PrincipalKind
from ostler.kernel.event import timestamp


class Change(msgspec.Struct, frozen=True):
    """One change of the directory."""

    at: str
    type: str
    by: str
    data: dict[str, Any]


def changing(acting: str | None, work: Callable[[Identity, Principal], Coroutine[Any, Any, None]]) -> None:
    """Do `work` on the directory of the tenant of whoever acts."""

    async def act(runtime: Runtime) -> None:
        by = await acting_principal(runtime, acting)
        await work(identity_of(runtime.parts, by.tenant), by)

    using_runtime(act, makes_store=True)


def directory(acting: str | None) -> Directory:
    """The directory of the tenant of whoever acts."""

    async def look(runtime: Runtime) -> Directory:
        by = await acting_principal(runtime, acting)
        return await identity_of(runtime.parts, by.tenant).directory()

    return using_runtime(look)


@click.group()
def principal() -> None:
    """Keep the directory of a tenant: who may act, with which scopes and roles.

    Without a directory everything is done as `local`, who owns the store and may do everything. Acting as somebody
    (--as, OSTLER_PRINCIPAL) says for whom the gate judges; it proves nothing, for whoever can write to the store can
    be anybody in it.
    """


@principal.command()
@click.argument("name", metavar="ID")
@click.option("--kind", type=click.Choice(["user", "service", "agent"]), default="user", show_default=True)
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it may do, such as crm.*; repeatable.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="What approvals and rules ask for; repeatable.")
@acting_option
def add(name: str, kind: PrincipalKind, scopes: tuple[str, ...], roles: tuple[str, ...], acting: str | None) -> None:
    """Add somebody. Nobody can give more than they have themselves."""
    changing(acting, lambda identity, by: identity.add(Principal(name, kind, by.tenant, scopes, roles), by))
    say(f"{name} was added.")


@principal.command()
@click.argument("name", metavar="ID")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="The scopes that it has from now on.")
@click.option("--no-scopes", is_flag=True, help="It has none any more.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="The roles that it has from now on.")
@click.option("--no-roles", is_flag=True, help="It has none any more.")
@acting_option
def change(
    name: str, scopes: tuple[str, ...], no_scopes: bool, roles: tuple[str, ...], no_roles: bool, acting: str | None
) -> None:
    """Give somebody other scopes or roles, in place of those that they have."""
    if not (scopes or no_scopes or roles or no_roles) or (scopes and no_scopes) or (roles and no_roles):
        raise click.UsageError("Say which scopes or roles it is to have: --scope, --no-scopes, --role, --no-roles.")
    new_scopes = scopes if scopes or no_scopes else None
    new_roles = roles if roles or no_roles else None
    changing(acting, lambda identity, by: identity.change(name, by, scopes=new_scopes, roles=new_roles))
    say(f"{name} was changed.")


@principal.command()
@click.argument("name", metavar="ID")
@click.option("--because", default="", help="The reason, for the record.")
@acting_option
def remove(name: str, because: str, acting: str | None) -> None:
    """Remove somebody. Grants and tokens for or to them are void from now on."""
    changing(acting, lambda identity, by: identity.remove(name, by, because))
    say(f"{name} was removed.")


@principal.command("list")
@acting_option
@output_options
def list_(acting: str | None, output: Format) -> None:
    """List the principals of a tenant."""
    found = sorted(directory(acting).principals.values(), key=lambda one: one.id)
    if not found and output == "table":
        say("There is nobody but the owner of the store. `ostler principal add` adds somebody.")
        return
    rows = [(one.id, one.kind, " ".join(one.scopes) or "–", " ".join(one.roles) or "–") for one in found]
    emit(
        [msgspec.structs.asdict(one) for one in found],
        output,
        lambda: Rows("id", "kind", "scopes~", "roles~", rows=rows),
    )


@principal.command()
@click.argument("name", metavar="ID")
@acting_option
@output_options
def show(name: str, acting: str | None, output: Format) -> None:
    """Show a principal, with the grants for and to it."""
    known = directory(acting)
    one = known.principal(name)
    grants = [grant.id for grant in known.grants.values() if name in (grant.subject, grant.actor)]
    shown = msgspec.structs.asdict(one) | {"grants": grants}
    fields = [(field, " ".join(value) if isinstance(value, tuple | list) else value) for field, value in shown.items()]
    emit(shown, output, lambda: blocks([fields]))


@principal.command()
@acting_option
@output_options
def history(acting: str | None, output: Format) -> None:
    """List every change of the directory: grants too, who made it and when."""

    async def look(runtime: Runtime) -> list[tuple[int, IdentityEvent]]:
        by = await acting_principal(runtime, acting)
        return await identity_of(runtime.parts, by.tenant).history()

    changes = [_change(at_us, event) for at_us, event in using_runtime(look)]
    rows = [(one.at, one.type, one.by, msgspec.json.encode(one.data).decode()) for one in changes]
    emit(changes, output, lambda: Rows("at", "what", "by", "data…", rows=rows))


def _change(at_us: int, event: IdentityEvent) -> Change:
    body: dict[str, Any] = msgspec.to_builtins(event)
    return Change(timestamp(at_us), body.pop("type"), body.pop("by"), body)
