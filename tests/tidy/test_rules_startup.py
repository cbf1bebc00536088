"""What reads the language of rules is loaded for those who have a text in it, and for nobody else."""

import subprocess
import sys
from pathlib import Path

import pytest

AGENT = 'name = "clerk"\ntools = ["look", "pay"]\n'
TABLES = '\n[[policy.rules]]\neffect = "deny"\ntool = "look"\n'
TEXT = '\n[policy]\ntext = "ALLOW operation"\n'

RUN = """
import sys
from pathlib import Path
from tests.cli import play
play.make_project(Path.cwd())
play.play()
Path("agents", "clerk.toml").write_text(sys.argv[1])
sys.argv = ["ostler", "run", "clerk", "pay"]
status = 0
try:
    play.main()
except SystemExit as end:
    status = end.code
print(status, Path("paid").exists(), "lark" in sys.modules)
"""


@pytest.mark.parametrize(("policy", "is_loaded"), [("", False), (TABLES, False), (TEXT, True)])
def test_a_session_without_a_text_of_rules_never_loads_the_parser(policy: str, is_loaded: bool, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, AGENT + policy]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-1:] == [f"0 True {is_loaded}"], run.stdout + run.stderr
