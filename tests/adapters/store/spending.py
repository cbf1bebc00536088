"""A process that reserves one token a time and says which were granted: `spending.py URL NAME COUNT`.

Every third of them is settled.
"""

import asyncio
import sys

from ostler.adapters.store.postgres.ledger import PostgresLedger
from ostler.adapters.store.postgres.store import PostgresStore
from ostler.adapters.store.sqlite import SqliteStore
from ostler.adapters.store.sqlite_ledger import SqliteLedger
from ostler.domain.budget import Holder, Refused
from ostler.testing.contracts.ledger import draw


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(url: str, name: str, count: int) -> None:
    store: SqliteStore | PostgresStore
    ledger: SqliteLedger | PostgresLedger
    if url.startswith("postgresql:"):
        server = await PostgresStore.open(url)
        store, ledger = server, PostgresLedger(server)
    else:
        file = await SqliteStore.open(url)
        store, ledger = file, SqliteLedger(file)
    say("ready")
    for number in range(count):
        holder = Holder("acme", name, str(number))
        verdict = await ledger.reserve(holder, [draw(1, soft=50)], now_us=number, until_us=10**9)
        if isinstance(verdict, Refused):
            continue
        if verdict.warnings:
            say("warned")
        say("granted")
        if number % 3 == 0:
            await ledger.settle(holder, {"tokens": 1}, now_us=number)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
