"""The examples do what their pages say."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.tidy.rules import ROOT

README = ROOT / "examples/oncall/README.md"


def test_the_agent_on_call_settles_the_second_alarm_as_its_page_says(tmp_path: Path) -> None:
    (console,) = re.findall(r"```console\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    runs = re.findall(r"^\$ python (examples/\S+) (.*)\n((?:[^$].*\n)+)", console, re.MULTILINE)
    assert len(runs) == 2
    for script, words, said in runs:
        done = subprocess.run(
            [sys.executable, "-W", "error", ROOT / script, *shlex.split(words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == said
