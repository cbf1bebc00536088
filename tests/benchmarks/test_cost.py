"""What a step costs, in counts: commits and bytes, which no busy machine can blur."""

from pathlib import Path

import pytest

from benchmarks.__main__ import floor, measure, run


async def test_a_step_of_a_lone_session_is_two_commits_and_few_bytes(tmp_path: Path) -> None:
    cost = await measure(tmp_path / "lone.db", sessions=1, steps=200)
    assert cost.commits == pytest.approx(2, rel=0.05)  # and a few for the start, the claim and the worker's own life
    assert cost.bytes <= 1400


async def test_bytes_a_step_do_not_grow_with_the_session(tmp_path: Path) -> None:
    short = await measure(tmp_path / "short.db", sessions=1, steps=100)
    long = await measure(tmp_path / "long.db", sessions=1, steps=800)
    assert long.bytes <= short.bytes * 1.2


async def test_sessions_in_company_share_their_commits(tmp_path: Path) -> None:
    cost = await measure(tmp_path / "together.db", sessions=200, steps=5)
    assert cost.commits < 0.1
    assert cost.bytes <= 1400


async def test_the_floor_writes_the_same_rows_in_as_many_commits(tmp_path: Path) -> None:
    cost = await measure(tmp_path / "ours.db", sessions=1, steps=20)
    bare = floor(tmp_path / "ours.db", 20, round(cost.commits * 20), makes_bytes=True)
    assert bare.commits == pytest.approx(cost.commits, rel=0.1)


def test_a_row_of_the_table_has_all_three() -> None:
    row = run(sessions=1, steps=3, rounds=1)
    assert min(row.ours.cpu_us, row.floor.cpu_us, row.writes.cpu_us) > 0
