"""Whose memories a person means, and whether they may see or change them."""

from ostler.app.service import Runtime
from ostler.domain.identity import Principal
from ostler.domain.memory.scope import Scope
from ostler.kernel.errors import NotAllowed, UsageError

READ = "memory.read"
"""The scope of those who may see what others' sessions remember."""
WRITE = "memory.write"
"""The scope of those who may change, forget and restore it."""
ERASE = "memory.erase"
"""The scope of those who may erase it."""

HINT = (
    "Name an agent with --agent, one of its users with --agent and --user, a session with --session, or what all "
    "agents of the tenant share with --shared. `ostler memory stats` lists whose memories there are."
)


async def scope_of(
    runtime: Runtime, by: Principal, *, agent: str = "", user: str = "", session: str = "", is_shared: bool = False
) -> Scope:
    """The scope that these name, in the tenant of whoever asks. A session alone says whose it is.

    Raises `UsageError` if they name none, or more than one; `NotFound`.
    """
    if is_shared:
        if agent or user or session:
            raise UsageError("What is shared belongs to no agent, user or session.", hint=HINT)
        return Scope(by.tenant)
    if session and not (agent and user):
        state = await (await runtime.session(session, tenant=by.tenant)).state()
        whose = Scope(by.tenant, state.agent.name, state.by.id, state.session)
        if agent not in ("", whose.agent) or user not in ("", whose.user):
            raise UsageError(f"{whose.session} is a session of {whose.agent} for {whose.user}.")
        return whose
    if not agent:
        raise UsageError("Whose memories? No scope is named, and there is none that means all.", hint=HINT)
    return Scope(by.tenant, agent, user, session)


def may(by: Principal, scope: Scope, right: str) -> bool:
    """Everybody has every right to what agents keep for them; to all else it takes the scope `right`."""
    return scope.tenant == by.tenant and (scope.user == by.id or by.may(right))


def check_may(by: Principal, scope: Scope, right: str) -> None:
    """Raises `NotAllowed` for those who may not."""
    if not may(by, scope, right):
        raise NotAllowed(
            f"{by.id} lacks the scope {right!r} for the memories of {scope}.",
            hint="Without it, one may see and change what agents keep for oneself: --agent NAME --user ID.",
        )
