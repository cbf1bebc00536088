"""Circuit breakers: which are open, opening and closing them by hand."""

from collections.abc import Sequence

import click

from ostler.app.circuits import Circuit, OpenCircuits, governed
from ostler.app.providers import BUILT_IN
from ostler.app.service import Runtime
from ostler.cli.base import settings_of_existing, using_runtime
from ostler.cli.governing import Realm, realm_of, realm_options
from ostler.cli.output import Format, Rows, emit, output_options, put, say
from ostler.domain.resilience.breaker import Kind
from ostler.domain.scheduling import EVERYONE
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import BreakersUnshared

KIND = click.argument("kind", type=click.Choice(["provider", "tool"]))


@click.group()
def breaker() -> None:
    """See and steer circuit breakers, which leave a provider or tool alone that fails too often.

    They open by themselves when calls fail, and close by themselves when a probe does well.
    """


@breaker.command("list")
@realm_options
@output_options
def list_(tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """List the breakers that are open.

    Each worker that lives has breakers of its own, unless [breakers] in ostler.toml names a server for all.
    """
    known = settings_of_existing()

    async def ask(runtime: Runtime) -> tuple[list[Circuit], BreakersUnshared | None]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        circuits = OpenCircuits(known, runtime.parts)
        tenants = [EVERYONE, *await governed(runtime.parts)] if realm.is_everything else [realm.tenant]
        await runtime.parts.governor.refresh([EVERYONE, *tenants])
        return await circuits.look(tenants), circuits.problem

    found, problem = using_runtime(ask)
    if problem is not None:
        say(f"{problem.message} {problem.hint}")
    if not found and output == "table":
        say("No breaker is open.")
        return
    emit(found, output, lambda: _circuits(found))


@breaker.command()
@KIND
@click.argument("name")
@click.option("--reason", "-r", required=True, help="Why; kept in the log, and told to whoever is refused.")
@realm_options
@output_options
def trip(
    kind: Kind, name: str, reason: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format
) -> None:
    """Let no call of a provider or tool begin until it is reset.

    What is under way finishes. Calls that are refused are tried again later, or go to another model where there is one.
    """

    async def work(runtime: Runtime) -> tuple[Realm, bool]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        return realm, await realm.governing(runtime).trip(kind, name, reason)

    realm, changed = using_runtime(work, makes_store=True)
    targets = settings_of_existing().providers
    if kind == "provider" and name not in (*BUILT_IN, *targets):
        near = did_you_mean(name, [*BUILT_IN, *targets])
        say(f"No provider is called {name!r} here." + (f" Did you mean {near!r}?" if near else ""))
    was = "is open now" if changed else "was opened by hand already"
    say(f"The breaker of the {kind} {name} {was} for {_whom(realm)}.")
    _put(realm, kind, name, "tripped", changed, output)


@breaker.command()
@KIND
@click.argument("name")
@click.option("--reason", "-r", default="", help="Why; kept in the log.")
@realm_options
@output_options
def reset(
    kind: Kind, name: str, reason: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format
) -> None:
    """Close a breaker, whether people or failures have opened it.

    Calls that wait for it begin when their wait is over, and new ones at once.
    """

    async def work(runtime: Runtime) -> tuple[Realm, bool]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        await realm.governing(runtime).reset(kind, name, reason)
        everything = runtime.parts.governor.register(EVERYONE)
        return realm, (kind, name) in (await everything.refresh()).tripped

    realm, is_open_for_all = using_runtime(work)
    say(f"The breaker of the {kind} {name} is closed for {_whom(realm)}.")
    if is_open_for_all:
        say(f"It is still open for everybody: `ostler breaker reset {kind} {name} --all` closes that.")
    _put(realm, kind, name, "tripped" if is_open_for_all else "closed", True, output)


def breaker_said(one: Circuit) -> str:
    """In a sentence."""
    whom = "everybody" if one.tenant == EVERYONE else f"the tenant {one.tenant}"
    how = {"tripped": "opened by hand", "open": f"open until {one.until}", "half-open": "open until a probe does well"}
    why = f": {one.because}" if one.because else ""
    return f"The breaker of the {one.kind} {one.name} is {how[one.state]} for {whom} (by {one.by}){why}."


def _whom(realm: Realm) -> str:
    return "everybody" if realm.is_everything else f"the tenant {realm.tenant}"


def _put(realm: Realm, kind: Kind, name: str, state: str, changed: bool, output: Format) -> None:
    if output != "table":
        tenant = None if realm.is_everything else realm.tenant
        put({"kind": kind, "name": name, "state": state, "changed": changed, "tenant": tenant}, output)


def _circuits(found: Sequence[Circuit]) -> Rows:
    rows = [(one.kind, one.name, one.tenant, one.state, one.until or "–", one.by, one.because or "–") for one in found]
    return Rows("kind", "name", "tenant", "state", "until", "by", "because~", rows=rows)
