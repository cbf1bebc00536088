"""What a policy says of one call."""

from typing import Literal

import msgspec

Decision = Literal["allow", "deny", "require"]


class Demand(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a rule wants before a call may begin: so many approvals, of people with one of these roles, within a time.

    No `roles` means anybody who may decide at all.
    """

    rule: str
    count: int = 1
    roles: tuple[str, ...] = ()
    within_s: float | None = None
    reason: str = ""


class Verdict(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a policy says of one call, which rule said it (empty: the default), and why.

    `demands` are those of every rule that wants approvals; `risk` is the computed risk score, if the policy looks at
    it; `policy` is the policy's name and version (`payments@3`) and `digest` the first 16 hexadecimal digits of its
    SHA-256.
    """

    effect: Decision
    rule: str = ""
    reason: str = ""
    demands: tuple[Demand, ...] = ()
    risk: float | None = None
    policy: str = ""
    digest: str = ""
