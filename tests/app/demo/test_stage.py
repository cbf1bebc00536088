"""Where the demonstration plays: the example is found, and its copy is a repository of its own."""

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ostler.app.demo import stage
from ostler.app.demo.stage import RUNS, Stage, Witness, check_sandbox, example
from ostler.kernel.errors import NotFound, SandboxUnavailable
from tests.tidy.rules import ROOT

EXAMPLE = ROOT / "examples" / "coder" / "repo"


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if "__pycache__" not in path.parts}


@pytest.fixture
def built(tmp_path: Path) -> Stage:
    built = Stage(tmp_path)
    built.build()
    return built


def test_in_a_clone_the_example_is_found_beside_the_sources() -> None:
    assert example().samefile(EXAMPLE)


def test_an_installed_ostler_brings_the_example_along(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    ask = [sys.executable, "-c", "from ostler.app.demo.stage import example; print(example())"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    found = subprocess.run(ask, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    folder = Path(found.strip())
    assert folder.is_relative_to(installed)
    assert files_of(folder) == files_of(EXAMPLE)


def test_a_missing_example_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stage, "__file__", str(tmp_path / "a/b/c/d/e.py"))
    with pytest.raises(NotFound, match="example"):
        example()


def test_the_copy_is_the_example_and_a_witness_in_one_commit(built: Stage) -> None:
    differing = dict(set(files_of(built.workspace).items()) ^ set(files_of(EXAMPLE).items()))
    assert set(differing) == {"tests/__init__.py"}
    assert built.commits() == 1
    assert built.git("status", "--porcelain") == ""


def test_a_read_only_example_has_a_copy_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    (locked / "tests").mkdir(parents=True)
    (locked / "tests" / "__init__.py").touch()
    for path in (locked / "tests" / "__init__.py", locked / "tests", locked):
        path.chmod(path.stat().st_mode & ~0o222)
    monkeypatch.setattr(stage, "example", lambda: locked)
    copy = Stage(tmp_path / "copy")
    copy.folder.mkdir()
    copy.build()
    assert all(path.stat().st_mode & stat.S_IWUSR for path in copy.workspace.glob("tests*"))
    locked.chmod(0o755)
    (locked / "tests").chmod(0o755)


def test_the_users_own_settings_of_git_count_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[commit]\n\tgpgsign = true\n[user]\n\tname = somebody\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    built = Stage(tmp_path / "stage")
    built.folder.mkdir()
    built.build()
    assert built.git("log", "--format=%an").split() == ["demo"]
    assert not (tmp_path / "elsewhere").exists()


async def test_the_witness_counts_runs_and_holds_the_second_one(built: Stage) -> None:
    def run() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-B", "-c", "import tests"], cwd=built.workspace)

    with Witness(built) as witness:
        assert run().wait() == 0
        assert witness.runs() == 1
        held = run()
        await witness.until(2)
        assert held.poll() is None
    assert held.wait() == 0
    assert (built.workspace / RUNS).read_text() == "run\n" * 2


async def test_a_missing_sandbox_is_mended_by_one_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable) as raised:
        await check_sandbox()
    assert raised.value.hint.endswith("apt-get install bubblewrap.")
