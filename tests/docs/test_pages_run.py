"""What the documents show is true: their Python runs as written, their output is what is printed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tidy.rules import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    found: list[str] = []
    current: list[str] | None = None
    for line in page.read_text("utf-8").splitlines():
        if current is None and line == f"```{language}":
            current = []
        elif current is not None and line == "```":
            found.append("\n".join(current) + "\n")
            current = None
        elif current is not None:
            current.append(line)
    return found


def run_checked(code: str, folder: Path) -> str:
    script = folder / "page.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and "reference" not in page.parts],
    ids=lambda page: page.stem,
)
def test_the_python_of_a_page_runs_as_it_is_written(page: Path, tmp_path: Path) -> None:
    run_checked("\n\n".join(blocks(page, "python")), tmp_path)


def test_the_quickstart_prints_what_the_readme_says(tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    assert run_checked(blocks(readme, "python")[0], tmp_path) == blocks(readme, "text")[0]


def test_a_session_of_the_quickstart_goes_on_in_a_second_run(tmp_path: Path) -> None:
    code = blocks(ROOT / "README.md", "python")[0]
    assert run_checked(code, tmp_path) == run_checked(code, tmp_path)
    assert (tmp_path / "ostler.db").exists()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.stem)
def test_the_toml_of_a_page_is_what_it_claims_to_be(page: Path) -> None:
    from ostler.app import definition
    from ostler.app.agents import AgentFile
    from ostler.app.settings import ProjectFile

    for text in blocks(page, "toml"):
        data = tomllib.loads(text)
        assert definition.problems_in(data, AgentFile if "instructions" in data else ProjectFile) == []


def test_the_reference_says_what_the_code_says() -> None:
    script = ROOT / "scripts" / "reference.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
