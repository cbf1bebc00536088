"""What is shipped is whole: SQL, built-in agents, the type marker and the licence go with the code."""

import subprocess
import sys
import tomllib
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from tests.tidy.rules import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def content(wheel: zipfile.ZipFile, ending: str) -> str:
    (name,) = (name for name in wheel.namelist() if name.endswith(ending))
    return wheel.read(name).decode()


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    files = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.is_file()}
    shipped = {Path(name) for name in wheel.namelist()}
    wanted = {path for path in files if "__pycache__" not in path.parts}
    assert Path("ostler/py.typed") in wanted
    assert wanted - shipped == set()


def test_the_wheel_has_the_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    assert "MIT License" in content(wheel, "/licenses/LICENSE")
    assert "ostler = ostler.cli:main" in content(wheel, "/entry_points.txt")


def test_the_core_asks_for_two_dependencies(wheel: zipfile.ZipFile) -> None:
    wanted = [line for line in content(wheel, "/METADATA").splitlines() if line.startswith("Requires-Dist:")]
    assert [line for line in wanted if "extra ==" not in line] == [
        "Requires-Dist: lark>=1.3",
        "Requires-Dist: msgspec>=0.20",
    ]


def test_every_dependency_says_what_it_saves_us() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    lines = [line.strip() for line in text.splitlines()]
    said = {line.strip('",'): before for before, line in pairwise(lines)}
    assert [name for name in wanted if not said[name].startswith("# ")] == []
