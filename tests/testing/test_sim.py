"""The simulation: it holds today's code to its invariants, finds every bug that is put back, and can be repeated."""

import os
import subprocess
import sys
import time

import pytest

from ostler.testing.sim import INVARIANTS, simulate
from ostler.testing.sim.__main__ import main
from ostler.testing.sim.bugs import BUGS
from ostler.testing.sim.trace import lines

FIXED = 300
FRESH = 150
SEEDS_MAX = 600
"""So many seeds are tried at most until a bug is found; most are found within the first twenty."""

BROKEN_BY = {
    "missing_fence": "I2",
    "stale_cache_after_conflict": "I6",
    "approval_not_bound_to_its_arguments": "I5",
    "spending_settled_twice_on_recovery": "I8",
    "intent_not_flushed_before_the_effect": "I5",
    "lost_wake_up": "I10",
    "worker_that_waits_to_be_told": "I10",
    "cancelled_session_goes_on": "I9",
    "snapshot_newer_than_the_log": "I6",
    "once_performed_again": "I4",
    "reconciliation_never_asks": "I4",
    "others_intents_are_begun": "I4",
    "acknowledged_and_lost": "I1",
    "lease_that_never_runs_out": "I10",
    "damage_passed_over": "I11",
    "limits_forgotten": "I8",
}


@pytest.mark.parametrize("first", range(0, FIXED, 100))
def test_every_invariant_holds_under_the_fixed_seeds(first: int) -> None:
    check_seeds(range(first, first + 100))


def test_every_invariant_holds_under_seeds_that_nobody_has_tried() -> None:
    first = int(time.time()) * 1_000
    sys.stdout.write(f"seeds {first} to {first + FRESH - 1}\n")
    check_seeds(range(first, first + FRESH))


def check_seeds(seeds: range) -> None:
    for seed in seeds:
        problems = simulate(seed).problems
        assert not problems, f"python -m ostler.testing.sim --seed {seed} --trace"


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_that_is_put_back_is_found_by_its_invariant_and_gone_without_it(bug: str) -> None:
    for seed in range(SEEDS_MAX):
        with BUGS[bug]():
            found = [problem for problem in simulate(seed).problems if problem.startswith(f"{BROKEN_BY[bug]}:")]
        if found:
            sys.stdout.write(f"found by seed {seed}: {found[0]}\n")
            assert not simulate(seed).problems
            return
    pytest.fail(f"{bug} is not found within {SEEDS_MAX} seeds")


def test_every_invariant_has_a_place_in_the_checker_and_a_sentence() -> None:
    assert list(INVARIANTS) == [f"I{number}" for number in range(1, 12)]
    assert [name for name, check in INVARIANTS.items() if not (check.__doc__ or "").startswith(f"{name}: ")] == []


def test_the_same_seed_tells_the_same_story_in_another_process() -> None:
    seed = "17"
    command = [sys.executable, "-m", "ostler.testing.sim", "--seed", seed, "--trace"]
    told = [
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert told[0].startswith("\n".join(lines(simulate(int(seed)).history)))


def test_another_seed_tells_another_story() -> None:
    assert list(lines(simulate(1).history)) != list(lines(simulate(2).history))


def test_a_campaign_names_the_seed_that_fails_and_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "50", "--jobs", "1", "--bug", "spending_settled_twice_on_recovery"]) == 1
    said = capsys.readouterr().out
    seed = said.partition("seed ")[2].partition(" fails")[0]
    assert f"again: python -m ostler.testing.sim --seed {seed} --trace --bug spending" in said
    assert main(["--seed", seed, "--trace", "--bug", "spending_settled_twice_on_recovery"]) == 1
    told = capsys.readouterr().out
    assert "agent.started" in told
    assert "I8: ses_" in told
    assert main(["--seed", seed]) == 0


def test_a_campaign_in_several_processes_runs_every_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "60", "--first", "1000", "--jobs", "2", "--keep-going"]) == 0
    assert "60 of 60 seeds from 1000" in capsys.readouterr().out
