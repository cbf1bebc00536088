"""The command line starts quickly. Modules are counted, because time differs between machines and modules do not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES_MAX = 400
NEVER = {"anthropic", "fastapi", "httpx2", "openai", "pydantic", "starlette"}
"""Nothing that only reads the store needs these."""

RUN = """
import json, sys
from ostler.cli import main
sys.argv = ["ostler", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    status = end.code
else:
    status = 0
print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)
"""


def modules_of(*arguments: str, folder: Path) -> set[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    command = [sys.executable, "-c", RUN, *arguments]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    status, modules = json.loads(run.stderr.splitlines()[-1])
    assert status in (0, None), run.stderr
    return set(modules)


@pytest.mark.parametrize(
    ("arguments", "refused"), [(["--help"], NEVER | {"rich", "yaml"}), (["ps"], NEVER)], ids=["help", "ps"]
)
def test_a_light_command_imports_little(arguments: list[str], refused: set[str], tmp_path: Path) -> None:
    modules = modules_of(*arguments, folder=tmp_path)
    assert modules & refused == set()
    assert len(modules) < MODULES_MAX


def test_the_package_itself_imports_no_face_and_no_extra() -> None:
    command = [sys.executable, "-c", "import ostler, sys; print(*sys.modules, sep='\\n')"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert set(modules) & (NEVER | {"click", "ostler.cli", "ostler.testing", "rich", "yaml"}) == set()
