"""What there is to be said of a policy without mistakes: rules that do nothing, calls of which no rule speaks."""

from typing import Literal

import msgspec

from ostler.app.policy.witness import Witness

Severity = Literal["warning", "note"]
FindingKind = Literal[
    "undeclared", "no detector", "aims at nothing", "never fires", "dead", "redundant", "overruled", "gap", "open"
]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One observation. `rule` is the rule's name, `line` and `column` where it stands, `others` what it has to do with.

    Warnings are about rules that do nothing, and so not what their author thinks; notes are worth knowing:

    `undeclared`       a name that is no fact, and so an input that has to be given
    `no detector`      what it names as a detector finds nothing, so that sessions under it are not started
    `aims at nothing`  its targets name no tool that there is
    `never fires`      its condition can never be true
    `dead`             whenever it matches, a rule that wins over it matches as well
    `redundant`        without it, every verdict would be the same
    `overruled`        some of the calls that it allows are denied by others
    `gap`              calls of which no rule speaks
    `open`             the solver gave no answer in time, so that nothing is claimed

    `witness` is a call that shows it: one that a dead, redundant or overruled rule matches and what wins over it, or
    of which no rule speaks.
    """

    kind: FindingKind
    message: str
    severity: Severity = "note"
    rule: str = ""
    line: int = 0
    column: int = 0
    others: tuple[str, ...] = ()
    witness: Witness | None = None
