"""Many simulated runs, in one process or in several."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from ostler.testing.sim.bugs import BUGS
from ostler.testing.sim.run import simulate

BATCH = 25


class Batch(NamedTuple):
    """Seeds from `first` to before `past`, which one process runs in a row."""

    first: int
    past: int
    bug: str | None


Failure = tuple[int, list[str]]


def failures(batch: Batch) -> list[Failure]:
    """The seeds of this batch that break an invariant, with what they break."""
    found = []
    with BUGS[batch.bug]() if batch.bug else nullcontext():
        for seed in range(batch.first, batch.past):
            problems = simulate(seed).problems
            if problems:
                found.append((seed, problems))
    return found


def run_all(batches: Sequence[Batch], *, jobs: int) -> Iterator[tuple[Batch, list[Failure]]]:
    """Every batch with what failed in it, in order, as soon as it is known."""
    if jobs == 1:
        for batch in batches:
            yield batch, failures(batch)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from zip(batches, pool.imap(failures, batches), strict=True)
