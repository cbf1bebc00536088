"""Stopping everything at once, and letting it go on: halt, release."""

import click

from ostler.app.service import Runtime
from ostler.cli.base import using_runtime
from ostler.cli.governing import Realm, realm_of, realm_options
from ostler.cli.output import Format, output_options, put, say
from ostler.kernel.errors import UsageError

agent_option = click.option("--agent", default="", metavar="NAME", help="The sessions of this agent only.")


@click.command()
@click.argument("reason")
@agent_option
@realm_options
@output_options
def halt(reason: str, agent: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Let no call begin and no session start, because of REASON, until `ostler release`.

    What is under way finishes and is recorded. It holds for every worker of the store, is written to its log, and takes
    nothing from any session: released, each goes on where it stopped.
    """

    if not reason.strip():
        raise UsageError("The reason is empty.", hint="Say why: those whose sessions stop will ask.")

    async def work(runtime: Runtime) -> tuple[Realm, bool]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        changed = await runtime.halt(
            reason, agent=agent, tenant=realm.tenant, everywhere=realm.is_everything, by=realm.by
        )
        return realm, changed

    realm, changed = using_runtime(work, makes_store=True)
    name = _name(realm, agent)
    say(f"{name} is halted." if changed else f"{name} was halted already.")
    _put(realm, agent, True, changed, output)


@click.command()
@click.option("--reason", "-r", default="", help="Why; kept in the log.")
@agent_option
@realm_options
@output_options
def release(reason: str, agent: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Let sessions start, and go on where `ostler halt` stopped them."""

    async def work(runtime: Runtime) -> tuple[Realm, bool]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        changed = await runtime.release(
            reason, agent=agent, tenant=realm.tenant, everywhere=realm.is_everything, by=realm.by
        )
        return realm, changed

    realm, changed = using_runtime(work)
    name = _name(realm, agent)
    say(f"{name} is released." if changed else f"{name} was not halted.")
    _put(realm, agent, False, changed, output)


def _name(realm: Realm, agent: str) -> str:
    return f"The agent {agent}" if agent else realm.name


def _put(realm: Realm, agent: str, is_halted: bool, changed: bool, output: Format) -> None:
    if output != "table":
        whose = {"tenant": None if realm.is_everything else realm.tenant} | ({"agent": agent} if agent else {})
        put({"halted": is_halted, "changed": changed} | whose, output)
