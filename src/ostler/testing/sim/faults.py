"""What may go wrong in a run, and how often: each seed has faults of its own, many of a few kinds (swarm testing).

Groce et al., "Swarm Testing", ISSTA 2012: leaving kinds of faults out of a run finds more than using all of them in
every one, because they get in each other's way.
"""

import random

import msgspec

LEASE_S = 6.0
"""How long a simulated worker's claims hold without a sign of life."""


class Faults(msgspec.Struct):
    """Rates are chances per outside call or per chance to do harm; `is_on` False is fair weather.

    A process naps when it is frozen in the middle of an outside call, rather than at any moment.
    """

    is_on: bool = True
    delay: float = 0.0
    stall: float = 0.0
    carried: float = 0.0
    refuse: float = 0.0
    lose_reply: float = 0.0
    crash: float = 0.0
    freeze: float = 0.0
    nap: float = 0.0
    cut_off: float = 0.0
    kill: float = 0.0
    stop: float = 0.0
    skew: float = 0.0
    rot: float = 0.0
    model_errors: float = 0.0
    model_nonsense: float = 0.0
    tool_errors: float = 0.0
    tool_hangs: float = 0.0
    stale_people: float = 0.0


_HARM = (
    ("delay", 0.5, 0.4),
    ("stall", 0.3, 0.03),
    ("carried", 0.5, 0.3),
    ("refuse", 0.4, 0.08),
    ("lose_reply", 0.4, 0.06),
    ("crash", 0.4, 0.02),
    ("freeze", 0.5, 1.0),
    ("nap", 0.4, 0.03),
    ("cut_off", 0.3, 1.0),
    ("kill", 0.4, 1.0),
    ("stop", 0.25, 1.0),
    ("skew", 0.3, 1.0),
    ("rot", 0.06, 1.0),
    ("model_errors", 0.5, 0.3),
    ("model_nonsense", 0.5, 0.4),
    ("tool_errors", 0.5, 0.4),
    ("tool_hangs", 0.4, 0.3),
    ("stale_people", 0.5, 0.5),
)
"""Kind, in how many runs it happens at all, and its greatest rate."""


def choose(chance: random.Random) -> Faults:
    """The faults of one run. One run in twelve has none."""
    faults = Faults()
    is_fair = chance.random() < 1 / 12
    for kind, share, most in _HARM:
        rate = most * chance.random() if chance.random() < share else 0.0
        setattr(faults, kind, 0.0 if is_fair else rate)
    return faults
