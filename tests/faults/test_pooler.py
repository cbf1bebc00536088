"""Behind a PgBouncer that gives out two server connections by the transaction, everything is as without."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostler.adapters.store.postgres.store import PostgresStore
from ostler.domain.session.state import ENDED
from ostler.testing.contracts.event_store import EventStoreContract
from tests.faults.cluster import Cluster, pooler
from tests.faults.crew import crew, size

CONNECTIONS = 2
POOLED = "&pgbouncer=true"


@pytest.fixture(scope="module")
def port(cluster: Cluster) -> Iterator[int]:
    with pooler(cluster, connections=CONNECTIONS) as port:
        yield port


@pytest.mark.fault(10)
class TestBehindPgBouncer(EventStoreContract):
    @pytest.fixture(autouse=True)
    def _behind(self, cluster: Cluster, port: int) -> None:
        self.cluster, self.port = cluster, port

    def storage(self, directory: Path):
        url = self.cluster.url(schema=f"pooled_{secrets.token_hex(6)}", port=self.port, more=POOLED)
        return lambda: PostgresStore.open(url)


@pytest.mark.fault(10)
async def test_two_workers_with_slow_tools_share_two_server_connections(
    cluster: Cluster, port: int, tmp_path: Path
) -> None:
    count = size(60, 600)
    url = cluster.url(schema="slow", port=port, more=POOLED)
    async with crew(url, tmp_path / "crew") as team:
        for _ in range(2):
            await team.hire(pause_s=0.3, concurrency=size(40, 400))
        await team.start("clerk", count)
        await team.start("nap 1", count)
        await team.over()
        assert [list((await team.statuses()).values()).count(end) for end in ENDED].count(2 * count) == 1
        for worker in team.workers.values():
            assert await team.stop(worker) == 0
        assert await team.judge() == []
        assert not [line for line in team.lines("trouble") if "prepared" in str(line.facts)]
        assert len({line.process for line in team.lines("claim")}) == 2
