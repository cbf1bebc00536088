"""What files and decorators say of attempts, of equal calls, and of how much is done at a time."""

import os
from pathlib import Path

import pytest

from ostler import tool
from ostler.app.agents import parse
from ostler.app.settings import resolve
from ostler.domain.resilience.pressure import Pressure
from ostler.domain.resilience.retry import Backoff, Retries
from ostler.domain.tool import ToolSpec
from ostler.kernel.errors import DefinitionInvalid

TOOLS = [
    ToolSpec("look", "Look.", {"type": "object"}, "read"),
    ToolSpec("pay", "Pay.", {"type": "object"}, "once"),
]
AGENT = 'name = "clerk"\ntools = ["look", "pay"]\n'


def test_a_project_says_how_much_one_process_does_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "ostler.toml").write_text("[pressure]\nmodel_calls = 20\nkept = 0.25\n")
    assert resolve({}, tmp_path).pressure == Pressure(model_calls=20, kept=0.25)
    assert resolve({}, Path(os.sep), store="memory:").pressure == Pressure()


@pytest.mark.parametrize("line", ["model_calls = 0", "kept = 1", "warn_at = -0.1", "model_cals = 3"])
def test_what_makes_no_sense_of_it_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    (tmp_path / "ostler.toml").write_text(f"[pressure]\n{line}\n")
    with pytest.raises(DefinitionInvalid, match=f"pressure.{line.partition(' ')[0]}"):
        resolve({}, tmp_path)


def test_an_agent_says_when_attempts_follow_one_another() -> None:
    text = AGENT + "[limits.retries]\nfor_s = 60\n[[limits.retries.kinds]]\ncode = 'shed'\nattempts = 9\n"
    text += "[tool.look]\nattempts = 5\nshare_s = 10\n"
    spec, _ = parse(text, TOOLS, source="clerk.toml")
    assert spec.limits.retries == Retries(for_s=60, kinds=(Backoff("shed", attempts=9),))
    assert [(one.attempts, one.share_s) for one in spec.tools] == [(5, 10), (3, None)]


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("[limits.retries]\nbase_s = 0\n", "limits.retries.base_s"),
        ("[limits.retries]\nfor = 5\n", "limits.retries.for"),
        ("[limits.retries]\nfor_s = inf\n", "limits.retries.for_s"),
        ("[limits.retries]\ncap_s = 1e300\n", "limits.retries.cap_s"),
        ("[limits.retries]\nbase_s = nan\n", "limits.retries.base_s"),
        ("[[limits.retries.kinds]]\ncode = 'shed'\nbase_s = inf\n", "limits.retries.kinds[0].base_s"),
        ("[settings]\nstop = ['END', '']\n", "settings.stop"),
        ("[settings]\nshare_s = -1\n", "settings.share_s"),
        ("[[limits.retries.kinds]]\ncode = 'shed'\nattempts = 0\n", "limits.retries.kinds[0].attempts"),
        ("[tool.look]\nattempts = 0\n", "tool.look.attempts"),
        ("[tool.pay]\nshare_s = 1\n", "tool.pay.share_s"),
    ],
)
def test_what_an_agent_says_of_attempts_is_checked(more: str, place: str) -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        parse(AGENT + more, TOOLS, source="clerk.toml")
    assert place in str(invalid.value)


def test_only_what_changes_nothing_may_be_shared() -> None:
    with pytest.raises(DefinitionInvalid, match="share_s"):
        tool(effect="idempotent", share_s=1)(lambda: None)
    with pytest.raises(DefinitionInvalid, match="attempts"):
        tool(effect="read", attempts=0)(lambda: None)
