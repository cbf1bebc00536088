"""Folding is applying facts one after the other, and nothing else."""

from ostler.kernel.decider import fold


def test_folding_applies_every_fact_in_order_at_its_moment() -> None:
    def evolve(state: str | None, event: str, at_us: int) -> str:
        return f"{state or ''}{event}{at_us}"

    assert fold(evolve, [(1, "a"), (3, "b"), (2, "c")]) == "a1b3c2"
    assert fold(evolve, [(3, "b"), (2, "c")], "a1") == "a1b3c2"


def test_the_state_after_nothing_is_the_state_before() -> None:
    def evolve(state: str | None, event: str, at_us: int) -> str:
        return event

    assert fold(evolve, []) is None
    assert fold(evolve, [], "x") == "x"
