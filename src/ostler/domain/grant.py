"""What a session may do at most, handed down and never widened."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ostler.domain.glob import matches_any, outside
from ostler.domain.identity import Principal
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import GrantWidened

DEPTH_MAX = 8
"""How often rights can be handed on at most, one holder to the next."""
GLOBS_MAX = 100

_GLOB = re.compile(r"[A-Za-z0-9_.:/@*-]{1,128}")


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rights of `subject`, lent to `actor`, who acts for it (RFC 8693).

    `scopes` and `tools` are globs, `expires_us` microseconds since 1970 (None: no end of its own). `depth` is how often
    it may be handed on: each holder hands on less. `parent` is the grant that this one was made from.
    """

    id: str
    tenant: str
    subject: str
    actor: str
    scopes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("*",)
    expires_us: int | None = None
    depth: int = 0
    parent: str | None = None


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be handed on to `actor`. None is as much as can be."""

    actor: str
    scopes: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    expires_us: int | None = None
    depth: int | None = None


def attenuate(parent: Grant, wanted: Wanted, *, grant_id: str) -> Grant:
    """The grant of this id that gives `wanted`, out of `parent`.

    Raises `GrantWidened`, with everything that `parent` does not have to give.
    """
    child = Grant(
        id=grant_id,
        tenant=parent.tenant,
        subject=parent.subject,
        actor=wanted.actor,
        scopes=parent.scopes if wanted.scopes is None else wanted.scopes,
        tools=parent.tools if wanted.tools is None else wanted.tools,
        expires_us=parent.expires_us if wanted.expires_us is None else wanted.expires_us,
        depth=max(parent.depth - 1, 0) if wanted.depth is None else wanted.depth,
        parent=parent.id,
    )
    if problems := widened(parent, child):
        raise GrantWidened(
            f"What is wanted of grant {parent.id} is more than it gives: {'; '.join(problems)}.",
            hint="Ask for less, or ask whoever issued it for a wider one.",
        )
    return child


def widened(parent: Grant, child: Grant) -> list[str]:
    """In what `child` gives more than `parent`, from which it says it comes; nothing if it does not."""
    problems = []
    if (child.tenant, child.subject, child.parent) != (parent.tenant, parent.subject, parent.id):
        problems.append("it is of another tenant, subject or parent")
    if parent.depth < 1:
        problems.append("it may not be handed on")
    elif not 0 <= child.depth < parent.depth:
        problems.append(f"it may be handed on {child.depth} times more, and {parent.depth - 1} are left")
    if scopes := outside(child.scopes, parent.scopes):
        problems.append(f"the scopes {', '.join(scopes)} are not within {', '.join(parent.scopes) or 'none'}")
    if tools := outside(child.tools, parent.tools):
        problems.append(f"the tools {', '.join(tools)} are not within {', '.join(parent.tools) or 'none'}")
    if parent.expires_us is not None and (child.expires_us is None or child.expires_us > parent.expires_us):
        problems.append("it would last longer")
    return problems


def problems_in(grant: Grant) -> list[str]:
    """What is wrong with a grant by itself."""
    problems = [
        f"{glob!r} is no scope or tool: up to 128 letters, digits, '_', '.', ':', '/', '@', '-', and '*' for any text"
        for glob in (*grant.scopes, *grant.tools)
        if not _GLOB.fullmatch(glob)
    ]
    if len(grant.scopes) > GLOBS_MAX or len(grant.tools) > GLOBS_MAX:
        problems.append(f"it names more than {GLOBS_MAX} scopes or tools")
    if not 0 <= grant.depth <= DEPTH_MAX:
        problems.append(f"its depth is {grant.depth}, not between 0 and {DEPTH_MAX}")
    return problems


def problems_in_chain(chain: Sequence[Grant]) -> list[str]:
    """What is wrong with grants of which each comes from the one before; the first was made from none."""
    if not chain:
        return ["there is no grant"]
    problems = [f"{chain[0].id} comes from {chain[0].parent}, which is missing"] if chain[0].parent else []
    problems += [f"{grant.id}: {problem}" for grant in chain for problem in problems_in(grant)]
    for parent, child in pairwise(chain):
        problems += [f"{child.id}: {problem}" for problem in widened(parent, child)]
    return problems


def has_expired(grant: Grant, now_us: int) -> bool:
    """Whether its time is over. A grant ends at the very moment that it names."""
    return grant.expires_us is not None and now_us >= grant.expires_us


def allows(grant: Grant, spec: ToolSpec, now_us: int) -> bool:
    """Whether the grant alone lets this tool be called now."""
    if has_expired(grant, now_us) or not matches_any(grant.tools, spec.name):
        return False
    return all(matches_any(grant.scopes, scope) for scope in spec.scopes)


class Holder(NamedTuple):
    """One whose rights count, and the scopes it has."""

    name: str
    scopes: tuple[str, ...]


class Rights(NamedTuple):
    """What may be done when all `holders` have to have a scope, within a grant if there is one.

    A `fault` says why nothing at all may be done.
    """

    holders: tuple[Holder, ...]
    grant: Grant | None = None
    fault: str = ""

    def may(self, scope: str) -> bool:
        return not self.fault and all(matches_any(holder.scopes, scope) for holder in self.holders)

    def refusal(self, spec: ToolSpec, now_us: int) -> str:
        """Why this tool may not be called now: who lacks what. Empty if it may be."""
        if self.fault:
            return self.fault
        grant = self.grant
        if grant is not None:
            if has_expired(grant, now_us):
                return f"the grant {grant.id} has expired"
            if not matches_any(grant.tools, spec.name):
                return f"the grant {grant.id} is not for {spec.name}"
        if spec.scopes:
            for holder in self.holders:
                if missing := [scope for scope in spec.scopes if not matches_any(holder.scopes, scope)]:
                    return f"{holder.name} lacks the scope {', '.join(missing)}"
        return ""


def effective(user: Principal, agent: Principal, grant: Grant | None = None) -> Rights:
    """What `agent` may do for `user`: what both may, and the grant lets them. Policies come on top of it.

    A grant that is for another tenant, user or agent gives nothing, and neither does an agent of another tenant.
    """
    if agent.tenant != user.tenant:
        return Rights((), grant, f"{agent.id} is of another tenant than {user.id}")
    holders = [Holder(who.id, who.scopes) for who in (user, agent) if "*" not in who.scopes]
    if grant is None:
        return Rights(tuple(holders))
    if (grant.tenant, grant.subject, grant.actor) != (user.tenant, user.id, agent.id):
        return Rights((), grant, f"the grant {grant.id} is not for {agent.id} acting for {user.id}")
    if "*" not in grant.scopes:
        holders.append(Holder(f"the grant {grant.id}", grant.scopes))
    return Rights(tuple(holders), grant)
