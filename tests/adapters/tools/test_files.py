"""The files of a workspace: what may be reached, what comes back, and what is true after a crash."""

import os
import stat

import msgspec
import pytest

from ostler.adapters.tools import files
from ostler.adapters.tools.files import FileTools
from ostler.adapters.tools.functions import Failure
from ostler.adapters.tools.workspace import Workspace, open_file
from ostler.domain.tool import ToolRequest
from ostler.testing.contracts.tool_host import Endless, ToolHostContract
from tests.adapters.sandbox.processes import processes_with

CATASTROPHE = {"pattern": "(a+)+$", "regex": True}
"""Matching this with thirty a's and a b takes longer than anybody lives."""


@pytest.fixture
def root(tmp_path):
    """A workspace with a neighbour that holds a secret."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("the secret\n")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return workspace


def request(root, name, *, key="ses_1/1.1", **arguments):
    return ToolRequest(
        tool=f"files.{name}", arguments=arguments, key=key, tenant="default", timeout_s=30.0, workspace=str(root)
    )


async def perform(root, name, **arguments):
    return await FileTools().perform(request(root, name, **arguments))


async def answer(root, name, **arguments):
    outcome = await perform(root, name, **arguments)
    assert outcome.ok, outcome.output
    return msgspec.json.decode(outcome.output)


def test_each_tool_promises_the_effect_that_it_has():
    assert {spec.name: spec.effect for spec in FileTools().specs()} == {
        "files.list": "read",
        "files.read": "read",
        "files.search": "read",
        "files.write": "idempotent",
        "files.edit": "reconcilable",
    }


def test_a_path_that_is_not_given_is_the_root_also_for_policies():
    paths = {spec.name: spec.parameters["properties"]["path"].get("default") for spec in FileTools().specs()}
    assert paths["files.list"] == paths["files.search"] == "."


async def test_without_a_workspace_there_are_no_files():
    outcome = await FileTools().perform(ToolRequest("files.list", {}, "k", "t", 1.0))
    assert (outcome.ok, outcome.kind) == (False, "blocked")


# What may be reached

CALLS = {
    "read": {},
    "list": {},
    "search": {"pattern": "secret"},
    "write": {"content": "x"},
    "edit": {"old": "the secret", "new": "x"},
}


@pytest.mark.parametrize("tool", CALLS)
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("../outside/secret.txt", "blocked"),
        ("inner/../../outside/secret.txt", "blocked"),
        ("/etc/passwd", "blocked"),
        ("link", "blocked"),
        ("folder_link/secret.txt", "blocked"),
        ("inner/loop/loop/file.txt", "blocked"),
        ("./inner", "invalid"),
        ("inner//file.txt", "invalid"),
        ("inner/", "invalid"),
        ("", "invalid"),
        ("a\0b", "invalid"),
    ],
)
async def test_no_path_leads_outside_or_has_a_second_spelling(root, tool, path, kind):
    (root / "inner").mkdir()
    (root / "inner" / "loop").symlink_to(".")
    (root / "inner" / "file.txt").write_text("the secret\n")
    (root / "link").symlink_to("../outside/secret.txt")
    (root / "folder_link").symlink_to(root.parent / "outside")
    outcome = await perform(root, tool, path=path, **CALLS[tool])
    assert (outcome.ok, outcome.kind) == (False, kind), outcome.output
    assert (root.parent / "outside" / "secret.txt").read_text() == "the secret\n"
    assert (root / "inner" / "file.txt").read_text() == "the secret\n"


def test_a_link_that_is_swapped_in_after_the_folder_was_opened_leads_nowhere(root):
    (root / "inner").mkdir()
    (root / "inner" / "file.txt").write_text("mine\n")
    with Workspace(str(root)).place("inner/file.txt") as (folder, name):
        (root / "inner").rename(root / "moved")
        (root / "inner").symlink_to(root.parent / "outside")
        assert os.listdir(folder) == ["file.txt"]
        (root / "moved" / "file.txt").unlink()
        (root / "moved" / "file.txt").symlink_to(root.parent / "outside" / "secret.txt")
        with pytest.raises(Failure, match="symbolic link"):
            files_open(folder, name)
    with pytest.raises(Failure, match="symbolic link"):
        Workspace(str(root)).replace("inner/secret.txt", b"x", scratch=".scratch")
    assert os.listdir(root.parent / "outside") == ["secret.txt"]


def files_open(folder, name):
    with open_file(folder, name, "inner/file.txt"):
        pass


async def test_lists_and_searches_do_not_follow_links(root):
    (root / "link").symlink_to(root.parent / "outside")
    (root / "file_link").symlink_to("../outside/secret.txt")
    assert (await answer(root, "list"))["entries"] == ["file_link@", "link@"]
    assert (await answer(root, "search", pattern="secret"))["matches"] == []


async def test_what_is_no_regular_file_is_refused_without_waiting_for_it(root):
    os.mkfifo(root / "fifo")
    for tool in ("read", "write", "edit"):
        outcome = await perform(root, tool, path="fifo", **CALLS[tool])
        assert (outcome.ok, outcome.kind) == (False, "invalid")
    assert (await answer(root, "search", pattern="x"))["matches"] == []


@pytest.mark.parametrize("tool", ["read", "list", "search", "edit"])
async def test_what_is_not_there_is_not_found(root, tool):
    outcome = await perform(root, tool, path="no/such/file", **CALLS[tool])
    assert (outcome.ok, outcome.kind) == (False, "not_found")


async def test_a_workspace_that_is_gone_says_so(root):
    root.rmdir()
    outcome = await perform(root, "list")
    assert "workspace itself cannot be opened" in outcome.output


# What comes back


async def test_a_list_goes_so_deep_and_no_deeper(root):
    for path in ("a/b/c/d.txt", ".git/config", "top.txt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    assert (await answer(root, "list", depth=2))["entries"] == [".git/", "a/", "a/b/", "top.txt"]
    assert (await answer(root, "list", path="a/b"))["entries"] == ["a/b/c/", "a/b/c/d.txt"]
    assert (await answer(root, "list", path=".git"))["entries"] == [".git/config"]
    assert await answer(root, "list", limit=1) == {"entries": [".git/"], "truncated": True}


async def test_a_file_is_read_whole_and_as_it_is(root):
    (root / "a.txt").write_bytes("eins\r\nzwei ü\nohne Ende".encode())
    whole = {"text": "eins\r\nzwei ü\nohne Ende", "lines": 3, "truncated": False}
    assert await answer(root, "read", path="a.txt") == whole
    (root / "empty").touch()
    assert await answer(root, "read", path="empty") == {"text": "", "lines": 0, "truncated": False}


async def test_reading_on_from_where_it_stopped_gives_the_whole_file(root):
    text = "".join(f"line {number} {'x' * 50}\n" for number in range(1, 1501))
    (root / "long.txt").write_text(text)
    pieces, offset = [], 1
    while True:
        part = await answer(root, "read", path="long.txt", offset=offset)
        assert len(part["text"]) <= files.READ_BYTES_MAX
        pieces.append(part["text"])
        if not part["truncated"]:
            break
        offset = part["next_offset"]
    assert len(pieces) > 2
    assert "".join(pieces) == text


async def test_some_lines_can_be_read(root):
    (root / "a.txt").write_text("1\n2\n3\n4\n")
    part = await answer(root, "read", path="a.txt", offset=2, limit=2)
    assert part == {"text": "2\n3\n", "first_line": 2, "truncated": True, "next_offset": 4}
    outcome = await perform(root, "read", path="a.txt", offset=9)
    assert (outcome.kind, "4 lines" in outcome.output) == ("invalid", True)


async def test_a_line_longer_than_a_read_is_cut_and_says_so(root):
    (root / "long.txt").write_text("x" * 100_000 + "\nnext\n")
    part = await answer(root, "read", path="long.txt")
    assert part["text"] == "x" * files.READ_BYTES_MAX
    assert "line 1" in part["note"]
    assert (await answer(root, "read", path="long.txt", offset=part["next_offset"]))["text"] == "next\n"


async def test_a_binary_file_is_named_and_not_dumped(root):
    (root / "image").write_bytes(b"\x89PNG\0needle" + bytes(1000))
    outcome = await perform(root, "read", path="image")
    assert (outcome.kind, "binary (1011 bytes)" in outcome.output) == ("invalid", True)
    found = await answer(root, "search", pattern="needle")
    assert found == {"matches": [], "notes": ["image: binary, contains it"]}


@pytest.mark.parametrize("regex", [False, True])
async def test_a_search_finds_lines_in_the_files_that_were_asked_for(root, regex):
    for path in ("a.py", "b.txt", "inner/c.py", "node_modules/d.py"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text("first\n  needle here  \n")
    pattern = "need.e h" if regex else "needle h"
    everywhere = [f"{path}:2:   needle here" for path in ("a.py", "b.txt", "inner/c.py")]
    assert (await answer(root, "search", pattern=pattern, regex=regex))["matches"] == everywhere
    assert (await answer(root, "search", pattern=pattern, regex=regex, glob="*.txt"))["matches"] == everywhere[1:2]
    assert (await answer(root, "search", pattern=pattern, regex=regex, glob="inner/*"))["matches"] == everywhere[2:]
    assert (await answer(root, "search", pattern=pattern, regex=regex, path="inner/c.py"))["matches"] == everywhere[2:]
    assert await answer(root, "search", pattern=pattern, regex=regex, limit=1) == {
        "matches": everywhere[:1],
        "truncated": True,
    }


async def test_a_pattern_that_is_no_regular_expression_says_why(root):
    outcome = await perform(root, "search", pattern="(", regex=True)
    assert (outcome.kind, "no regular expression" in outcome.output) == ("invalid", True)


async def test_a_pattern_that_backtracks_for_ever_is_stopped(root, monkeypatch):
    (root / "a.txt").write_text("a" * 60 + "b\n")
    monkeypatch.setattr(files, "REGEX_TIMEOUT_S", 0.5)
    outcome = await perform(root, "search", **CATASTROPHE)
    assert (outcome.ok, outcome.kind) == (False, "timeout")


# Writing and editing


async def test_a_write_makes_folders_and_a_second_one_changes_nothing(root):
    for _ in range(2):
        assert await answer(root, "write", path="a/b/c.txt", content="ü\n") == {"path": "a/b/c.txt", "bytes": 3}
        assert (root / "a/b/c.txt").read_text() == "ü\n"
        assert os.listdir(root / "a/b") == ["c.txt"]


async def test_a_file_that_is_replaced_keeps_its_mode(root):
    (root / "run.sh").write_text("old")
    (root / "run.sh").chmod(0o751)
    await answer(root, "write", path="run.sh", content="new")
    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o751


async def test_a_write_that_fails_leaves_what_was_there(root, monkeypatch):
    (root / "a.txt").write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = await perform(root, "write", path="a.txt", content="new")
    assert (outcome.kind, "No space left" in outcome.output) == ("permanent", True)
    assert (root / "a.txt").read_text() == "old"
    assert os.listdir(root) == ["a.txt"]


async def test_what_a_crash_left_beside_a_file_goes_with_the_next_attempt(root, monkeypatch):
    def die(*arguments, **places):
        raise KeyboardInterrupt

    first = request(root, "write", path="a.txt", content="new")
    with monkeypatch.context() as crash:
        crash.setattr(os, "rename", die)
        crash.setattr(os, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            files.write_file(first, "a.txt", "new")
    assert len(os.listdir(root)) == 1
    assert (await FileTools().perform(msgspec.structs.replace(first, attempt=2))).ok
    assert os.listdir(root) == ["a.txt"]


async def test_an_edit_replaces_the_one_occurrence_and_says_where(root):
    (root / "a.txt").write_bytes(b"one\r\ntwo \xff\r\nthree\r\n")
    assert await answer(root, "edit", path="a.txt", old="two", new="2") == {"path": "a.txt", "line": 2}
    assert (root / "a.txt").read_bytes() == b"one\r\n2 \xff\r\nthree\r\n"


@pytest.mark.parametrize(
    ("content", "old", "says"),
    [("abc", "x", "does not occur"), ("x x", "x", "more than once"), ("aaa", "aa", "more than once")],
)
async def test_an_edit_of_anything_but_one_occurrence_is_refused(root, content, old, says):
    (root / "a.txt").write_text(content)
    outcome = await perform(root, "edit", path="a.txt", old=old, new="y")
    assert (outcome.kind, says in outcome.output) == ("invalid", True)
    assert (root / "a.txt").read_text() == content


EDITS = [
    ("plain", "x = 1\n", "1", "2"),
    ("an insertion, whose result still contains the old text", "x = 1\n", "x = 1\n", "x = 1\ny = 2\n"),
    ("a deletion", "keep drop", " drop", ""),
    ("a deletion whose result contains the old text", "aabb", "ab", ""),
    ("a replacement that was elsewhere already", "foo bar", "foo", "bar"),
]


@pytest.mark.parametrize(("name", "content", "old", "new"), EDITS, ids=[name for name, *_ in EDITS])
async def test_an_edit_knows_whether_it_happened(root, name, content, old, new):
    (root / "a.txt").write_text(content)
    edit = request(root, "edit", path="a.txt", old=old, new=new)
    host = FileTools()
    assert await host.reconcile(edit) is None
    assert (await host.perform(edit)).ok
    after = (root / "a.txt").read_text()
    happened = await host.reconcile(edit)
    assert happened is not None
    assert happened.ok
    assert (root / "a.txt").read_text() == after


async def test_the_mark_of_an_edit_is_not_that_of_another(root):
    (root / "a.txt").write_text("x = 1\n")
    host = FileTools()
    assert (await host.perform(request(root, "edit", path="a.txt", old="1", new="2"))).ok
    assert await host.reconcile(request(root, "edit", key="ses_1/2.1", path="a.txt", old="2", new="3")) is None


@pytest.mark.parametrize(
    ("content", "old", "new", "verdict"),
    [
        ("x = 1", "1", "2", None),
        ("x = 2", "1", "2", "happened"),
        ("ab", "a", "ab", "unknown"),
        ("b foo", "foo", "b", None),
        ("kept", " dropped", "", "happened"),
        ("kept dropped", " dropped", "", None),
        ("something else", "1", "2", None),
        ("1 1", "1", "3", None),
    ],
)
async def test_without_a_mark_the_content_tells_or_nobody_knows(root, monkeypatch, content, old, new, verdict):
    def unsupported(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "getxattr", unsupported)
    (root / "a.txt").write_text(content)
    outcome = await FileTools().reconcile(request(root, "edit", path="a.txt", old=old, new=new))
    if verdict is None:
        assert outcome is None
    else:
        assert outcome is not None
        assert (outcome.ok, outcome.kind) == ((True, None) if verdict == "happened" else (False, "unknown"))


async def test_an_edit_of_a_file_that_is_gone_did_not_happen(root):
    assert await FileTools().reconcile(request(root, "edit", path="a.txt", old="1", new="2")) is None


class TestFileToolsKeepTheContract(ToolHostContract):
    def make(self):
        return FileTools()

    def harmless(self, folder):
        return request(folder, "write", path="a.txt", content="x")

    def endless(self, folder):
        (folder / "a.txt").write_text("a" * 60 + "b\n")
        running = lambda: bool(processes_with("ostler.adapters.tools.search"))  # noqa: E731
        return Endless(request(folder, "search", **CATASTROPHE), running, running)
