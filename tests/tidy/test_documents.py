"""The documents are whole: their links lead somewhere, and they speak of what there is."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import ostler
from tests.tidy.rules import ROOT

LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(document: Path) -> set[str]:
    """The names that headings get when they are shown: lower case, spaces as hyphens, punctuation dropped."""
    headings = re.findall(r"^#+\s+(.*?)\s*#*$", FENCED.sub("", document.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    for match in LINK.finditer(FENCED.sub("", document.read_text("utf-8"))):
        link = match[1] or match[2]
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield f"{document.name}: {link}"


def test_links_between_documents_lead_somewhere() -> None:
    assert [link for document in documents() for link in broken_links(document)] == []


@pytest.mark.parametrize("link", ["nowhere.md", "#nothing", "other.md#nothing", "<nowhere.md>"])
def test_a_broken_link_is_noticed(link: str, tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other things, really\n")
    here = tmp_path / "here.md"
    here.write_text(f"# Here\n[x]({link}) [y](other.md#other-things-really) [z](#here) [w](https://example.com)\n")
    assert list(broken_links(here)) == [f"here.md: {link.strip('<>')}"]


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[?{re.escape(version)}\b", changelog, re.MULTILINE)


def test_every_public_name_says_what_it_is() -> None:
    public = {name: getattr(ostler, name) for name in ostler.__all__}
    code = {name: value for name, value in public.items() if callable(value)}
    assert code, "nothing is public"
    assert [name for name, value in code.items() if not (value.__doc__ or "").strip()] == []


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs/reference/python.md").read_text("utf-8")
    assert [name for name in ostler.__all__ if not re.search(rf"`{re.escape(name)}\b", reference)] == []
