"""Ids that say what they name and sort by when they were made."""

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
CHANCE_BYTES = 10
_MASK_26 = (1 << 130) - 1


def make_id(prefix: str, time_ms: int, chance: bytes) -> str:
    """`ses_01jd…`: prefix, underscore, 26 characters of Crockford base32 (the ULID layout, lower case).

    48 bits of `time_ms` since 1970, then 80 bits of `chance` (10 bytes): later ids sort after earlier ones.
    """
    if len(chance) != CHANCE_BYTES:
        raise ValueError(f"an id needs {CHANCE_BYTES} random bytes, got {len(chance)}")
    number = ((time_ms << 80) | int.from_bytes(chance, "big")) & _MASK_26
    letters = [ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(letters)}"
