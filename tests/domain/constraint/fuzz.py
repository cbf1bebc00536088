"""Texts at random for the reader of rules: none may crash it or hold it up.

`python -m tests.domain.constraint.fuzz --inputs 1000000`: valid policies with pieces changed, words of the language in
any order, and bytes. Each must be read and compiled, or be refused with `PolicyInvalid`. A text that reads is printed
and read again. Prints what was seen, and the slowest text; ends with status 1 at the first fault.
"""

import argparse
import multiprocessing
import os
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

from ostler.domain.constraint.compile import policy_of
from ostler.domain.constraint.grammar import GRAMMAR
from ostler.domain.constraint.parser import parse
from ostler.domain.constraint.printer import show
from ostler.kernel.errors import PolicyInvalid

SECONDS_MAX = 10.0
BATCH = 2000
SAMPLE = Path(__file__).with_name("sample.rules").read_text("utf-8")
STATEMENTS = [line for line in SAMPLE.splitlines() if line.strip() and not line.startswith("#")]
SIGNS = '( ) [ ] { } , : == = != < <= > >= + - * / # " % . \\ tool.* role.sends_out args.amount risk_score user 1 0'
VALUES = '10m 2h USD 70% 1e308 9999999999999999999 "a" "*.x" /a+/ /(/ happened( count( sum( exists( lower('
WORDS = [*sorted(set(re.findall(r"\w+(?=\(\?!)", GRAMMAR))), *SIGNS.split(" "), *VALUES.split(" "), "\n"]


def text_of(chance: random.Random) -> str:
    """One text."""
    kind = chance.randrange(10)
    if kind < 6:
        return _changed(chance, "\n".join(chance.choices(STATEMENTS, k=chance.randrange(1, 4))))
    if kind < 9:
        return " ".join(chance.choices(WORDS, k=chance.randrange(1, 25)))
    return chance.randbytes(chance.randrange(60)).decode("utf-8", chance.choice(["replace", "surrogateescape"]))


def _changed(chance: random.Random, text: str) -> str:
    for _ in range(chance.randrange(4)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 1, 1, 2, 5, 20]))
        new = chance.choice(["", chance.choice(WORDS), chr(chance.randrange(0x3000)), text[:start][-8:] * 3])
        text = text[:start] + new + text[end:]
    return text


def try_one(text: str) -> str:
    """`compiled`, `unchecked` (it reads, and means nothing) or `refused`. Raises whatever should not happen."""
    try:
        parsed = parse(text)
    except PolicyInvalid:
        return "refused"
    if parse(show(parsed)) != parsed:
        raise AssertionError("what is printed is something else")
    try:
        policy_of(text)
    except PolicyInvalid:
        return "unchecked"
    return "compiled"


def try_batch(seed: int) -> tuple[Counter[str], float, str]:
    """What became of a batch of texts; the longest time that one took, and which."""
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    slowest, text_of_it = 0.0, ""
    for _ in range(BATCH):
        text = text_of(chance)
        begun = time.process_time()
        try:
            seen[try_one(text)] += 1
        except Exception as error:
            raise RuntimeError(f"seed {seed}: {type(error).__name__}: {error}: {text!r}") from error
        spent = time.process_time() - begun
        if spent > slowest:
            slowest, text_of_it = spent, text
    if slowest > SECONDS_MAX:
        raise RuntimeError(f"seed {seed}: {slowest:.1f} s for {text_of_it!r}")
    return seen, slowest, text_of_it


def main() -> int:
    """Try so many texts, and print what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    batches = range(asked.seed, asked.seed + -(-asked.inputs // BATCH))
    seen: Counter[str] = Counter()
    slowest, text = 0.0, ""
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for counts, spent, one in pool.imap_unordered(try_batch, batches):
            seen += counts
            if spent > slowest:
                slowest, text = spent, one
    became = ", ".join(f"{count:,} {what}" for what, count in seen.most_common())
    sys.stdout.write(f"{seen.total():,} texts: {became}\n")
    sys.stdout.write(f"the slowest took {slowest * 1000:.1f} ms of CPU: {text[:200]!r}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
