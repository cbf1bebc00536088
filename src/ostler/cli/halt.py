"""Stopping everything at once, and letting it go on: halt, release."""

import click

from ostler.app.service import Runtime
from ostler.cli.base import using_runtime
from ostler.cli.output import Format, output_options, put, say
from ostler.domain.identity import DEFAULT_TENANT

_tenant = click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose sessions.")
_everywhere = click.option("--all", "everywhere", is_flag=True, help="The sessions of all tenants of the store.")


@click.command()
@click.argument("reason")
@_tenant
@_everywhere
@output_options
def halt(reason: str, tenant: str, everywhere: bool, output: Format) -> None:
    """Let no call begin and no session start, because of REASON, until `ostler release`.

    What is under way finishes and is recorded. It holds for every worker of the store, is written to its log, and takes
    nothing from any session: released, each goes on where it stopped.
    """

    async def work(runtime: Runtime) -> bool:
        return await runtime.halt(reason, tenant=tenant, everywhere=everywhere)

    changed = using_runtime(work, makes_store=True)
    whose = "Everything" if everywhere else f"The tenant {tenant}"
    say(f"{whose} is halted." if changed else f"{whose} was halted already.")
    if output != "table":
        put({"halted": True, "changed": changed, "tenant": None if everywhere else tenant}, output)


@click.command()
@click.option("--reason", "-r", default="", help="Why; kept in the log.")
@_tenant
@_everywhere
@output_options
def release(reason: str, tenant: str, everywhere: bool, output: Format) -> None:
    """Let sessions start, and go on where `ostler halt` stopped them."""

    async def work(runtime: Runtime) -> bool:
        return await runtime.release(reason, tenant=tenant, everywhere=everywhere)

    changed = using_runtime(work)
    whose = "Everything" if everywhere else f"The tenant {tenant}"
    say(f"{whose} is released." if changed else f"{whose} was not halted.")
    if output != "table":
        put({"halted": False, "changed": changed, "tenant": None if everywhere else tenant}, output)
