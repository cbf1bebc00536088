"""A few seconds of `make soak`: random faults, the same for every seed."""

from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.crew import size
from tests.faults.soak import soak


@pytest.mark.fault(33)
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [7])
async def test_random_faults_for_a_while_break_nothing_and_nothing_grows(
    cluster: Cluster, tmp_path: Path, seed: int
) -> None:
    run, problems = await soak(cluster, tmp_path / "crew", seconds=size(8, 300), seed=seed)
    assert problems == [], f"seed {seed}"
    assert run.sessions > 20
    assert run.faults
