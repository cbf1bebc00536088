"""What holds for all sessions of a tenant: whether it is halted, which breakers people have opened, and its policies
on their way from proposal to use.

A policy is proposed, tried out in the shadow, approved by somebody else, and applied. One that only narrows what the
one before it lets pass may be applied without an approval.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from ostler.domain.constraint.policy import Policy
from ostler.domain.identity import Principal
from ostler.domain.resilience.breaker import Kind
from ostler.domain.scheduling import EVERYONE
from ostler.kernel.codec import Codec
from ostler.kernel.errors import Conflict, NotAllowed, NotFound
from ostler.kernel.event import Event, StreamId

GOVERNANCE = "governance"
"""The stream of each tenant that these events stand in, its queue and its status. No agent's name may be this."""
GOVERN = "govern"
"""The scope of those who may halt, propose, approve and apply."""

Change = Literal["equal", "narrower", "wider", "incomparable", "unknown"]
"""How a policy compares with the one that it is to replace; see `ostler policy diff`."""


class FleetHalted(Event, tag="fleet.halted"):
    """No call begins and no session starts in this tenant, or in the whole store, until it is released.

    With an `agent`, that holds for its sessions only.
    """

    by: str
    reason: str
    agent: str = ""


class FleetReleased(Event, tag="fleet.released"):
    """Sessions go on where they stopped; with an `agent`, those of this one."""

    by: str
    reason: str = ""
    agent: str = ""


class PolicyProposed(Event, tag="policy.proposed"):
    """Somebody wants this policy to hold; `change` says how it compares with the one that it is to replace.

    `against` is the digest of that one, empty if there was none of this name.
    """

    policy: Policy
    digest: str
    by: str
    change: Change
    because: str = ""
    against: str = ""


class PolicyShadowed(Event, tag="policy.shadowed"):
    """From now on new sessions try it: what it says is recorded, and nothing follows from it."""

    digest: str
    by: str


class PolicyApproved(Event, tag="policy.approved"):
    """Somebody else than who proposed it wants it, too."""

    digest: str
    by: str
    reason: str = ""


class PolicyRejected(Event, tag="policy.rejected"):
    """It will not be applied."""

    digest: str
    by: str
    reason: str = ""


class PolicyApplied(Event, tag="policy.applied"):
    """New sessions are under it, in place of the policy of the same name."""

    digest: str
    by: str


class WithdrawalProposed(Event, tag="withdrawal.proposed"):
    """Somebody wants the policy of this name not to hold any more, which takes somebody else who wants that, too."""

    name: str
    digest: str
    by: str
    reason: str = ""


class PolicyWithdrawn(Event, tag="policy.withdrawn"):
    """New sessions are not under the policy of this name any more."""

    name: str
    by: str
    reason: str = ""


class BreakerTripped(Event, tag="breaker.tripped"):
    """Nothing is asked of this provider or tool until somebody resets its breaker. `kind` is `provider` or `tool`."""

    kind: Kind
    name: str
    by: str
    at_us: int
    reason: str = ""


class BreakerReset(Event, tag="breaker.reset"):
    """The breaker of this provider or tool is closed, whoever has opened it, if that was before `at_us`."""

    kind: Kind
    name: str
    by: str
    at_us: int
    reason: str = ""


GovernanceEvent = (
    FleetHalted
    | FleetReleased
    | PolicyProposed
    | PolicyShadowed
    | PolicyApproved
    | PolicyRejected
    | PolicyApplied
    | WithdrawalProposed
    | PolicyWithdrawn
    | BreakerTripped
    | BreakerReset
)

GOVERNANCE_CODEC: Codec[GovernanceEvent] = Codec(GovernanceEvent)

Stage = Literal["proposed", "shadow", "approved", "applied", "rejected"]


class Proposal(msgspec.Struct, frozen=True):
    """A policy on its way; `by` proposed it, and `approved_by` wants it, too."""

    policy: Policy
    digest: str
    by: str
    change: Change
    stage: Stage = "proposed"
    because: str = ""
    approved_by: str = ""
    against: str = ""


class Governance(msgspec.Struct, frozen=True):
    """What holds in a tenant. `halted` is why nothing may begin; `applied` are the digests of its policies by name.

    `leaving` are those names of them of which somebody wants that they do not hold any more. `tripped` are the breakers
    that people have opened, and `resets` those that they have closed, the last time of each. `halted_agents` are those
    of whose sessions nothing may begin.
    """

    halted: FleetHalted | None = None
    proposals: Mapping[str, Proposal] = {}
    applied: Mapping[str, str] = {}
    leaving: Mapping[str, WithdrawalProposed] = {}
    tripped: Mapping[tuple[Kind, str], BreakerTripped] = {}
    resets: Mapping[tuple[Kind, str], BreakerReset] = {}
    halted_agents: Mapping[str, FleetHalted] = {}

    @property
    def layers(self) -> tuple[Policy, ...]:
        """The policies that new sessions are under, above the agent's own."""
        return tuple(self.proposals[digest].policy for digest in self.applied.values())

    @property
    def shadow(self) -> tuple[Policy, ...]:
        """The policies that new sessions only try."""
        return tuple(one.policy for one in self.proposals.values() if one.stage == "shadow")

    def proposal(self, start: str) -> Proposal:
        """The one whose digest begins so. Raises `NotFound`, or `Conflict` if there are several."""
        found = [one for digest, one in self.proposals.items() if digest.startswith(start)]
        if not found:
            raise NotFound(f"No policy with the digest {start} was proposed.", hint="`ostler policy list` shows them.")
        if len(found) > 1:
            raise Conflict(f"{start} is the beginning of more than one digest.", hint="Write more of it.")
        return found[0]


def streams_of(tenant: str) -> tuple[StreamId, StreamId]:
    """Where it stands what holds for this tenant: for the whole store, and for the tenant alone."""
    return StreamId(EVERYONE, GOVERNANCE), StreamId(tenant, GOVERNANCE)


def evolve(state: Governance, events: Iterable[GovernanceEvent]) -> Governance:
    """What holds after these events."""
    for event in events:
        state = _evolve(state, event)
    return state


def _evolve(state: Governance, event: GovernanceEvent) -> Governance:
    replace = msgspec.structs.replace
    match event:
        case FleetHalted(agent=""):
            return replace(state, halted=event)
        case FleetHalted():
            return replace(state, halted_agents={**state.halted_agents, event.agent: event})
        case FleetReleased(agent=""):
            return replace(state, halted=None)
        case FleetReleased():
            left = {agent: one for agent, one in state.halted_agents.items() if agent != event.agent}
            return replace(state, halted_agents=left)
        case PolicyProposed():
            proposal = Proposal(
                event.policy, event.digest, event.by, event.change, because=event.because, against=event.against
            )
            return replace(state, proposals={**state.proposals, event.digest: proposal})
        case PolicyShadowed():
            return _staged(state, event.digest, stage="shadow")
        case PolicyApproved():
            return _staged(state, event.digest, stage="approved", approved_by=event.by)
        case PolicyRejected():
            return _staged(state, event.digest, stage="rejected")
        case PolicyApplied():
            name = state.proposals[event.digest].policy.name
            applied = {**state.applied, name: event.digest}
            return replace(_staged(state, event.digest, stage="applied"), applied=applied)
        case WithdrawalProposed():
            return replace(state, leaving={**state.leaving, event.name: event})
        case PolicyWithdrawn():
            return replace(
                state,
                applied={name: one for name, one in state.applied.items() if name != event.name},
                leaving={name: one for name, one in state.leaving.items() if name != event.name},
            )
        case BreakerTripped():
            return replace(state, tripped={**state.tripped, (event.kind, event.name): event})
        case BreakerReset():
            place = (event.kind, event.name)
            tripped = {at: one for at, one in state.tripped.items() if at != place}
            return replace(state, tripped=tripped, resets={**state.resets, place: event})


def _staged(state: Governance, digest: str, **changes: str) -> Governance:
    proposal = msgspec.structs.replace(state.proposals[digest], **changes)
    return msgspec.structs.replace(state, proposals={**state.proposals, digest: proposal})


Decide = Callable[[Governance], list[GovernanceEvent]]
"""What somebody wants to happen, given how things stand. Raises `NotAllowed`, `Conflict`, `NotFound`."""


def joined(everywhere: Governance, here: Governance) -> Governance:
    """What holds in a tenant by what holds in the whole store and there, the former above the latter."""
    return Governance(
        halted=everywhere.halted or here.halted,
        proposals={**here.proposals, **everywhere.proposals},
        applied={
            **{f"*/{name}": digest for name, digest in everywhere.applied.items()},
            **here.applied,
        },
        halted_agents={**here.halted_agents, **everywhere.halted_agents},
    )


def halt(state: Governance, by: Principal, reason: str, agent: str = "") -> list[GovernanceEvent]:
    """Nothing may begin any more; with an `agent`, nothing of its sessions. Raises `NotAllowed`."""
    _assert_may(by)
    return [] if halted(state, agent) is not None else [FleetHalted(by.id, reason, agent)]


def release(state: Governance, by: Principal, reason: str, agent: str = "") -> list[GovernanceEvent]:
    """Everything may go on; with an `agent`, its sessions may. Raises `NotAllowed`."""
    _assert_may(by)
    return [] if halted(state, agent) is None else [FleetReleased(by.id, reason, agent)]


def halted(state: Governance, agent: str = "") -> FleetHalted | None:
    """By whom and why all is halted, or (with a name) this agent alone."""
    return state.halted_agents.get(agent) if agent else state.halted


def trip(state: Governance, by: Principal, kind: Kind, name: str, reason: str, at_us: int) -> list[GovernanceEvent]:
    """Nothing may be asked of it any more. Raises `NotAllowed`."""
    _assert_may(by)
    return [] if (kind, name) in state.tripped else [BreakerTripped(kind, name, by.id, at_us, reason)]


def reset(state: Governance, by: Principal, kind: Kind, name: str, reason: str, at_us: int) -> list[GovernanceEvent]:
    """It may be asked again, whether people or failures have opened its breaker. Raises `NotAllowed`."""
    _assert_may(by)
    return [BreakerReset(kind, name, by.id, at_us, reason)]


def propose(
    state: Governance, by: Principal, policy: Policy, digest: str, change: Change, because: str
) -> list[GovernanceEvent]:
    """Raises `Conflict` if it holds already, or another one with its name and version was proposed."""
    _assert_may(by)
    if state.applied.get(policy.name) == digest:
        raise Conflict(f"The policy {policy.name}@{policy.version} with these rules is applied already.")
    for one in state.proposals.values():
        is_same = (one.policy.name, one.policy.version) == (policy.name, policy.version)
        if is_same and one.digest != digest:
            raise Conflict(
                f"There was another {policy.name}@{policy.version} before, with other rules.",
                hint="Give the changed policy a new version.",
            )
    return [PolicyProposed(policy, digest, by.id, change, because, state.applied.get(policy.name, ""))]


def shadow(state: Governance, by: Principal, digest: str) -> list[GovernanceEvent]:
    """New sessions try it. Raises `NotAllowed`."""
    _assert_may(by)
    proposal = _on_its_way(state, digest)
    return [] if proposal.stage == "shadow" else [PolicyShadowed(proposal.digest, by.id)]


def approve(state: Governance, by: Principal, digest: str, reason: str) -> list[GovernanceEvent]:
    """Raises `NotAllowed` for whoever proposed it."""
    _assert_may(by)
    proposal = _on_its_way(state, digest)
    if by.id == proposal.by:
        raise NotAllowed(f"{by.id} proposed this policy, and cannot be the one who approves it.")
    return [PolicyApproved(proposal.digest, by.id, reason)]


def reject(state: Governance, by: Principal, digest: str, reason: str) -> list[GovernanceEvent]:
    """It will never be applied. Raises `NotAllowed`."""
    _assert_may(by)
    return [PolicyRejected(_on_its_way(state, digest).digest, by.id, reason)]


def apply(state: Governance, by: Principal, digest: str) -> list[GovernanceEvent]:
    """Raises `Conflict` if it may let more pass than what it replaces, and nobody has approved that."""
    _assert_may(by)
    proposal = _on_its_way(state, digest)
    is_compared = proposal.against == state.applied.get(proposal.policy.name, "")
    if proposal.stage != "approved" and not (is_compared and proposal.change in ("equal", "narrower")):
        raise Conflict(
            f"{proposal.policy.name}@{proposal.policy.version} may let more pass than what it replaces "
            f"({proposal.change if is_compared else 'it was compared with another one'}), and is not approved.",
            hint="Somebody else than who proposed it must approve it: `ostler policy approve`.",
        )
    return [PolicyApplied(proposal.digest, by.id)]


def withdraw(state: Governance, by: Principal, name: str, reason: str) -> list[GovernanceEvent]:
    """Taking a policy away lets more pass: the first who wants it proposes it, and the second, somebody else, does it.

    Raises `NotFound` if no policy of this name is applied, `NotAllowed` for whoever proposed it.
    """
    _assert_may(by)
    if name not in state.applied:
        raise NotFound(f"No policy named {name!r} is applied.", hint="`ostler policy list` shows those that are.")
    proposed = state.leaving.get(name)
    if proposed is None or proposed.digest != state.applied[name]:
        return [WithdrawalProposed(name, state.applied[name], by.id, reason)]
    if proposed.by == by.id:
        raise NotAllowed(f"{by.id} proposed to withdraw {name!r}; somebody else has to do it.")
    return [PolicyWithdrawn(name, by.id, reason)]


def _on_its_way(state: Governance, digest: str) -> Proposal:
    proposal = state.proposal(digest)
    if proposal.stage in ("applied", "rejected"):
        raise Conflict(f"{proposal.policy.name}@{proposal.policy.version} is {proposal.stage} already.")
    return proposal


def _assert_may(by: Principal) -> None:
    if not by.may(GOVERN):
        raise NotAllowed(f"{by.id} lacks the scope {GOVERN!r}.")
