"""Servers that the tests of faults share; each test has a schema of its own on them."""

from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster, private_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server that may be stopped, killed and started again; it runs when a test begins and ends."""
    with private_cluster() as made:
        yield made
