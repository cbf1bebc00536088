"""Stopping everything at once, and letting it go on: halt, release."""

import click

from ostler.app.service import Runtime
from ostler.cli.base import using_runtime
from ostler.cli.governing import Realm, realm_of, realm_options
from ostler.cli.output import Format, output_options, put, say
from ostler.kernel.errors import UsageError


@click.command()
@click.argument("reason")
@realm_options
@output_options
def halt(reason: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Let no call begin and no session start, because of REASON, until `ostler release`.

    What is under way finishes and is recorded. It holds for every worker of the store, is written to its log, and takes
    nothing from any session: released, each goes on where it stopped.
    """

    if not reason.strip():
        raise UsageError("The reason is empty.", hint="Say why: those whose sessions stop will ask.")

    async def work(runtime: Runtime) -> tuple[Realm, bool]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        changed = await runtime.halt(reason, tenant=realm.tenant, everywhere=realm.is_everything, by=realm.by)
        return realm, changed

    realm, changed = using_runtime(work, makes_store=True)
    say(f"{realm.name} is halted." if changed else f"{realm.name} was halted already.")
    _put(realm, True, changed, output)


@click.command()
@click.option("--reason", "-r", default="", help="Why; kept in the log.")
@realm_options
@output_options
def release(reason: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Let sessions start, and go on where `ostler halt` stopped them."""

    async def work(runtime: Runtime) -> tuple[Realm, bool]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        changed = await runtime.release(reason, tenant=realm.tenant, everywhere=realm.is_everything, by=realm.by)
        return realm, changed

    realm, changed = using_runtime(work)
    say(f"{realm.name} is released." if changed else f"{realm.name} was not halted.")
    _put(realm, False, changed, output)


def _put(realm: Realm, is_halted: bool, changed: bool, output: Format) -> None:
    if output != "table":
        put({"halted": is_halted, "changed": changed, "tenant": None if realm.is_everything else realm.tenant}, output)
