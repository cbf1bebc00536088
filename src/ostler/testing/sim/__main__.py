"""`python -m ostler.testing.sim`: thousands of simulated runs, or one of them as a story."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

from ostler.testing.sim.bugs import BUGS
from ostler.testing.sim.campaign import BATCH, Batch, run_all
from ostler.testing.sim.run import simulate
from ostler.testing.sim.trace import lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 if any run broke an invariant."""
    asked = _parser().parse_args(arguments)
    if asked.seed is not None:
        return _tell(asked.seed, asked.bug, is_traced=asked.trace)
    past = asked.first + asked.seeds
    started, done, broken = time.monotonic(), 0, 0
    batches = [Batch(first, min(first + BATCH, past), asked.bug) for first in range(asked.first, past, BATCH)]
    for batch, found in run_all(batches, jobs=asked.jobs):
        done = batch.past - asked.first
        broken += len(found)
        for seed, problems in found:
            _say(f"\rseed {seed} fails:\n  " + "\n  ".join(problems[:5]))
            _say(f"  again: {_command(seed, asked)}")
        rate = done / (time.monotonic() - started)
        if not (sys.stdout.isatty() or done == asked.seeds or found):
            continue
        _say(f"\r{done} of {asked.seeds} seeds from {asked.first}, {rate:.0f} a second, {broken} failed", end="")
        if found and not asked.keep_going:
            break
    _say("")
    return 1 if broken else 0


def _tell(seed: int, bug: str | None, *, is_traced: bool) -> int:
    with BUGS[bug]() if bug else nullcontext():
        outcome = simulate(seed)
    if is_traced:
        for line in lines(outcome.history):
            _say(line)
    _say(f"seed {seed}: {outcome.seconds:.0f} simulated seconds, {len(outcome.history.tales)} sessions")
    for problem in outcome.problems:
        _say(f"  {problem}")
    return 1 if outcome.problems else 0


def _command(seed: int, asked: argparse.Namespace) -> str:
    more = f" --bug {asked.bug}" if asked.bug else ""
    return f"python -m ostler.testing.sim --seed {seed} --trace{more}"


def _say(text: str, *, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ostler.testing.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="in how many processes (default: one a core)"
    )
    parser.add_argument("--keep-going", action="store_true", help="run them all, whatever fails")
    parser.add_argument("--seed", type=int, help="one run only")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell everything that happens in it")
    parser.add_argument("--bug", choices=sorted(BUGS), help="put this bug back first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
