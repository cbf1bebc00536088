"""The policies that come with Ostler say what their examples say, and none of their rules does nothing."""

from importlib import resources
from pathlib import Path

import pytest

from ostler.app.policies import pack_names
from ostler.app.policy.analysis import analyse
from ostler.app.policy.examples import example_files, try_examples
from ostler.app.policy.files import load_policy

FOLDER = Path(str(resources.files("ostler.app"))) / "policies"


@pytest.mark.parametrize("name", pack_names())
def test_a_policy_that_comes_with_ostler_says_what_its_examples_say(name: str):
    (path,) = example_files(FOLDER / f"{name}.rules")
    report = try_examples(path)
    assert [one for one in report.tried if not one.is_met] == []
    assert report.untouched == (), "a rule that no example matches may say anything"


@pytest.mark.parametrize("name", pack_names())
def test_no_rule_that_comes_with_ostler_does_nothing(name: str):
    assert [one for one in analyse(load_policy(name)) if one.severity == "warning"] == []
