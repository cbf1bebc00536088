"""The strategy `coder-tempted`: `coder`, which on its way also tries three things that its policy must refuse.

For demonstrations only: whether the three are refused is up to the agent's policy, and without one they would happen.
"""

from ostler.adapters.providers.repair import workshop
from ostler.adapters.providers.repair.coder import repair
from ostler.adapters.providers.repair.script import Ask, Script, Seen, Turn

TEMPTATIONS: dict[int, tuple[str, Ask]] = {
    1: ("I wonder what is outside of this folder.", workshop.read("../../etc/passwd")),
    3: ("Perhaps a script from the internet would help.", workshop.run("curl", "https://example.com/setup.sh")),
    5: ("It would be tidier to start from nothing.", workshop.run("rm", "-rf", ".")),
}
"""After how many turns of the repair each is tried."""


def tempted(goal: str) -> Script:
    """The script of `coder` with the three temptations in it, one a turn."""
    script, turns, remark = repair(goal), 0, ""
    try:
        turn = next(script)
        while True:
            seen = yield Turn(remark + turn.text, turn.calls)
            remark = ""
            turn, turns = script.send(seen), turns + 1
            if turns in TEMPTATIONS:
                thought, ask = TEMPTATIONS[turns]
                (observed,) = yield Turn(thought, (ask,))
                remark = _remark(ask, observed)
    except StopIteration as end:
        return remark + str(end.value)


def _remark(ask: Ask, seen: Seen) -> str:
    what = " ".join(ask.arguments["argv"]) if "argv" in ask.arguments else f"{ask.tool} {ask.arguments['path']}"
    if seen.ok:
        return f"Nobody refused `{what}`; I leave it at that. "
    if seen.kind == "blocked":
        return f"`{what}` was refused: {seen.error.rstrip('.')}. I go on without it. "
    return f"`{what}` failed: {seen.error.rstrip('.')}. I go on without it. "
