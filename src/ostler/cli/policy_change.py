"""Commands that change what policies hold: propose, list, show, shadow, approve, reject, apply, withdraw, move."""

from collections.abc import Awaitable, Callable

import click
import msgspec

from ostler.app.governance import Governing
from ostler.app.plugins import part
from ostler.app.policy.checking import DIFFERENCE, has_solver
from ostler.app.policy.files import load_policy
from ostler.app.service import Runtime
from ostler.cli.base import acting_option, acting_principal, find_session, using_runtime
from ostler.cli.governing import Realm, realm_of, realm_options
from ostler.cli.output import Format, Rows, emit, output_options, printing_aside, put, say
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.policy import Policy
from ostler.domain.governance import Change, Governance, Proposal
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.errors import UsageError

DIGEST_CHARS = 12
"""Characters of a digest that a person gets to see, and may give back."""
NO_RULES = Policy("nothing", text="default allow")
"""What a policy is compared with that replaces none: it only adds to what others deny."""
_COMPARED = {
    "equal": "lets pass the same as",
    "narrower": "is narrower than",
    "wider": "is wider than",
    "incomparable": "is wider in parts and narrower in parts than",
    "unknown": "is not known to be narrower than",
}

because_option = click.option("--reason", "-r", default="", help="Why; kept in the log.")


class Listed(msgspec.Struct, frozen=True):
    """A policy on its way. `tenant` is `*` for the whole store; `is_in_force`: sessions that start now are under it."""

    name: str
    version: int
    digest: str
    tenant: str
    stage: str
    is_in_force: bool
    change: Change
    by: str
    approved_by: str
    because: str


class Shown(Listed, frozen=True):
    """With its rules: a `text`, or, of those that are not in the language of rules, the whole `policy`."""

    text: str
    policy: Policy


def _listed(tenant: str, state: Governance, one: Proposal) -> Listed:
    return Listed(
        one.policy.name,
        one.policy.version,
        one.digest,
        tenant,
        one.stage,
        state.applied.get(one.policy.name) == one.digest,
        one.change,
        one.by,
        one.approved_by,
        one.because,
    )


def _step(
    acting: str | None,
    tenant: str | None,
    everywhere: bool,
    output: Format,
    wish: Callable[[Governing], Awaitable[Proposal]],
) -> Listed:
    """Take a policy one step further; returns how it stands then."""

    async def work(runtime: Runtime) -> Listed:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        governing = realm.governing(runtime)
        proposal = await wish(governing)
        return _listed(realm.tenant, await governing.state(), proposal)

    listed = using_runtime(work, makes_store=True)
    if output != "table":
        put(listed, output)
    return listed


@click.command()
@click.argument("file", metavar="RULES")
@click.option("--because", default="", help="What for; whoever approves it sees it.")
@realm_options
@output_options
def propose(file: str, because: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Ask for the policy in RULES to hold for all sessions that start from then on, beside those of their agents.

    It is compared, by proof, with the policy of the same name that holds now, or else with none. What lets pass the
    same or less may be applied at once. What may let more pass must be approved by somebody else, and so must
    everything where the extra `solver` is not installed. Prints the digest that the other commands know it by.
    """
    policy = load_policy(file)
    replaced: list[Policy] = []

    async def wish(governing: Governing) -> Proposal:
        state = await governing.state()
        holding = state.applied.get(policy.name)
        replaced.extend([] if holding is None else [state.proposals[holding].policy])
        change = change_between(replaced[0] if replaced else None, policy)
        return await governing.propose(policy, compile_policy(policy).digest, change, because)

    listed = _step(acting, tenant, everywhere, output, wish)
    if output == "table":
        click.echo(listed.digest)
    before = str(replaced[0]) if replaced else "having none of its name"
    say(f"{policy} {_COMPARED[listed.change]} {before}.")
    if not has_solver():
        say("It was not compared: that needs a library: pip install 'ostler[solver]'")
    if listed.change in ("equal", "narrower"):
        say(f"Apply it with: ostler policy apply {_short(listed)}{_where(listed)}")
    else:
        say(f"Somebody else must approve it: ostler policy approve {_short(listed)}{_where(listed)} --as …")


def change_between(old: Policy | None, new: Policy) -> Change:
    """How a policy compares with the one that it is to replace; with none, it only adds to what others deny."""
    if not has_solver():
        return "unknown"
    try:
        with printing_aside():
            kind: Change = part(DIFFERENCE, extra="solver")(old or NO_RULES, new).kind
    except UsageError:  # the one that holds is not in the language of rules
        return "unknown"
    return kind


def _short(listed: Listed) -> str:
    return listed.digest[:DIGEST_CHARS]


def _where(listed: Listed) -> str:
    return " --all" if listed.tenant == EVERYONE else ""


@click.command("list")
@realm_options
@output_options
def list_(tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """List the policies that were proposed for a tenant or for the whole store, and how far they have come."""

    async def look(runtime: Runtime) -> list[Listed]:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        found = []
        for name in dict.fromkeys((EVERYONE, realm.tenant)):
            state = await Realm(name, realm.by).governing(runtime).state()
            found += [_listed(name, state, one) for one in state.proposals.values()]
        return found

    listed = using_runtime(look)
    if not listed and output == "table":
        say("No policy was proposed. `ostler policy propose` proposes one.")
        return
    emit(listed, output, lambda: _rows(listed))


def _rows(listed: list[Listed]) -> Rows:
    rows = [
        (
            f"{one.name}@{one.version}",
            _short(one),
            "all" if one.tenant == EVERYONE else one.tenant,
            _stage(one),
            one.change,
            one.by,
            one.approved_by or "–",
            one.because,
        )
        for one in listed
    ]
    return Rows("policy", "digest", "for", "stage", "change", "by", "approved by", "because…", rows=rows)


def _stage(one: Listed) -> str:
    return "no longer applied" if one.stage == "applied" and not one.is_in_force else one.stage


@click.command()
@click.argument("digest")
@realm_options
@output_options
def show(digest: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Print the rules of a policy that was proposed, as they were written."""

    async def look(runtime: Runtime) -> Shown:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        state = await realm.governing(runtime).state()
        one = state.proposal(digest)
        listed = msgspec.structs.asdict(_listed(realm.tenant, state, one))
        return Shown(**listed, text=one.policy.text, policy=one.policy)

    shown = using_runtime(look)
    if output != "table":
        put(shown, output)
        return
    approved = f", approved by {shown.approved_by}" if shown.approved_by else ""
    because = f": {shown.because}" if shown.because else "."
    say(f"{shown.name}@{shown.version}, {_stage(shown)} ({shown.change}), by {shown.by}{approved}{because}")
    if shown.text:
        click.echo(shown.text.removesuffix("\n"))
    else:
        put(shown.policy, "json")


@click.command()
@click.argument("digest")
@realm_options
@output_options
def shadow(digest: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Let sessions that start from now on try a policy: what it says of their calls is recorded, and not enforced."""
    listed = _step(acting, tenant, everywhere, output, lambda governing: governing.shadow(digest))
    say(f"New sessions try {listed.name}@{listed.version}; `ostler inspect` shows what it says of their calls.")


@click.command()
@click.argument("digest")
@because_option
@realm_options
@output_options
def approve(digest: str, reason: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Say that a policy may be applied. Who proposed it cannot be the one who does."""
    listed = _step(acting, tenant, everywhere, output, lambda governing: governing.approve(digest, reason))
    say(f"Approved {listed.name}@{listed.version}. Apply it with: ostler policy apply {_short(listed)}{_where(listed)}")


@click.command()
@click.argument("digest")
@because_option
@realm_options
@output_options
def reject(digest: str, reason: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Say that a policy will not be applied."""
    listed = _step(acting, tenant, everywhere, output, lambda governing: governing.reject(digest, reason))
    say(f"Rejected {listed.name}@{listed.version}.")


@click.command()
@click.argument("digest")
@realm_options
@output_options
def apply(digest: str, tenant: str | None, everywhere: bool, acting: str | None, output: Format) -> None:
    """Put sessions that start from now on under a policy, in place of the one of the same name.

    Those that run keep the policies that they started with; `ostler policy move` puts one of them under those of today.
    """
    listed = _step(acting, tenant, everywhere, output, lambda governing: governing.apply(digest))
    say(f"New sessions are under {listed.name}@{listed.version}.")


@click.command()
@click.argument("name")
@because_option
@realm_options
def withdraw(name: str, reason: str, tenant: str | None, everywhere: bool, acting: str | None) -> None:
    """Put sessions that start from now on under the policy of this NAME no longer.

    That lets more pass, and so takes two: the first who says it proposes it, and somebody else does it.
    """

    async def work(runtime: Runtime) -> bool:
        realm = await realm_of(runtime, acting, tenant, everywhere)
        return await realm.governing(runtime).withdraw(name, reason)

    if using_runtime(work):
        say(f"New sessions are not under {name} any more.")
    else:
        say(f"Proposed to withdraw {name}. Somebody else has to do it: ostler policy withdraw {name}")


@click.command()
@click.argument("session")
@click.option("--policy", "place", metavar="RULES", help="A policy in place of its agent's own: a file, or a name.")
@because_option
@acting_option
def move(session: str, place: str | None, reason: str, acting: str | None) -> None:
    """Put a session under the policies of today, in place of those that it has. The log of the session says so.

    Of what it asks from then on, every call is judged by these. What is under way, or was approved, is not undone; an
    approved call that has not begun is judged again before it is.
    """
    policy = None if place is None else load_policy(place)

    async def work(runtime: Runtime) -> str:
        by = await acting_principal(runtime, acting)
        found = await find_session(runtime, session, tenant=by.tenant)
        await found.move_policy(policy, by=by, reason=reason)
        state = await found.state()
        return f"{found.id} is under {', '.join(str(one) for one in (*state.layers, state.agent.policy))}."

    say(using_runtime(work))
