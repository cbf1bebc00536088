"""How a new policy compares with an old one."""

import msgspec

from ostler.app.policy.witness import Witness
from ostler.domain.governance import Change


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a new policy compares with an old one.

    `narrower`: no call gets further than before, and some do not get as far. `wider` is the opposite, and
    `incomparable` both. `unknown`: something could not be decided in time, so that nothing may be concluded.
    `allows` shows what gets further now, `refuses` what no longer does; `open` says what could not be decided.
    """

    kind: Change
    allows: tuple[Witness, ...] = ()
    refuses: tuple[Witness, ...] = ()
    open: tuple[str, ...] = ()
