"""What an agent remembers, and what one scope may hold."""

import msgspec

from ostler.domain.memory.scope import Level


class MemorySettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the sessions of an agent keep for later ones, and see of what earlier ones kept.

    These `tools` are added to the agent's own (names or globs). Before its first request, and with what a person says
    later, a session recalls what bears on it: `recall_max` memories and `recall_tokens` at most (0: none). Before it
    ends it remembers what came of it, if `episodes`. What it remembers is kept at `level`, and nowhere but at the
    levels in `writes`. Relations named in `single` have one value at a time. Working memory holds `working_entries` and
    `working_tokens`; what was used longest ago goes.
    """

    tools: tuple[str, ...] = ("memory.remember", "memory.recall", "memory.forget")
    level: Level = "user"
    writes: tuple[Level, ...] = ("session", "user")
    recall_max: int = 8
    recall_tokens: int = 1000
    episodes: bool = True
    single: tuple[str, ...] = ()
    working_entries: int = 32
    working_tokens: int = 2000


class Keeping(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long memories last, and how much one scope may hold.

    The strength of an episode halves every `half_life_days`. Beyond `episodes_max` the weakest goes; beyond
    `memories_max` facts and files, or `bytes_max` of their texts, nothing more is remembered.
    """

    half_life_days: float = 30.0
    episodes_max: int = 10_000
    memories_max: int = 200_000
    bytes_max: int = 256 * 1024 * 1024

    @property
    def half_life_us(self) -> int:
        return int(self.half_life_days * 86_400_000_000)


class Consolidating(msgspec.Struct, frozen=True, omit_defaults=True):
    """When something becomes of memories that nobody has decided.

    Near-duplicates differ in words only that say nothing, and have the share `alike` of their words in common
    (Jaccard's index); or their vectors are to `near` (cosine), and their numbers, names and negations are the same.
    What `sessions_min` sessions have told becomes a fact. An episode that was never recalled goes once it is weaker
    than `strength_min`. A run takes `steps_max` steps at most.
    """

    alike: float = 0.85
    near: float = 0.97
    sessions_min: int = 3
    strength_min: float = 0.01
    steps_max: int = 100
