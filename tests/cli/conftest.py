"""A project of its own for every test of the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ostler.cli import cli
from tests.cli import play

Ostler = Callable[..., Result]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a project with the agent `clerk`, who plays the part that the goal names."""
    play.make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    play.play(monkeypatch.setitem)
    return tmp_path


@pytest.fixture
def ostler(project: Path) -> Ostler:
    """Runs one command line in this process."""

    def run(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(cli, arguments, prog_name="ostler", **options)

    return run
