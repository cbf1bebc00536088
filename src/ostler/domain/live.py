"""What a model says while it says it: for eyes only. What it has said is in the log, and that alone is true."""

import msgspec


class Piece(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Some text of a reply that comes. `offset` characters of it stand before: if they are more than were seen, some
    were left out for a reader who was too slow.

    A reply begins anew with every `attempt` of its `call`. `withheld` says why nothing of one is shown before it is in
    the log; there is no text then.
    """

    call: str
    attempt: int
    offset: int
    text: str = ""
    withheld: str = ""
