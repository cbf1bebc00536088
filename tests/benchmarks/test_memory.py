"""Recalling finds what is nearest, and stays cheap while the memories grow."""

from pathlib import Path

from benchmarks.memory import measure, report


async def test_the_nearest_are_found_and_every_figure_is_told(tmp_path: Path) -> None:
    found = await measure(600, tmp_path)
    assert found.recall_at_10 >= 0.99
    assert min(found.recall_p50_ms, found.words_ms, found.vectors_ms, found.applied_per_s, found.embedded_per_s) > 0
    assert "600 memories of 384 dimensions" in report(found)
