"""The files under /memories, as texts: what each command is answered, and what a file says after it."""

import pytest

from ostler.domain.memory import files
from ostler.domain.memory.files import VIEW_BYTES_MAX, Edited
from ostler.kernel.errors import Conflict, NotFound, UsageError


@pytest.mark.parametrize(
    ("path", "name"),
    [("/memories", "/memories"), ("/memories/", "/memories"), ("/memories/a b/ü.md", "/memories/a b/ü.md")],
)
def test_a_path_below_memories_is_a_name(path: str, name: str) -> None:
    assert files.checked(path) == name


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/memoriesx/a",
        "memories/a",
        "/memories/../etc/passwd",
        "/memories/a/../../b",
        "/memories/./a",
        "/memories//a",
        "/memories/..",
        "/memories/a\\..\\b",
        "/memories/a\0b",
        "/memories/a\nb",
        "",
    ],
)
def test_no_path_leads_out_of_memories(path: str) -> None:
    with pytest.raises(UsageError, match="Error: Invalid path"):
        files.checked(path)


def test_the_same_letters_written_otherwise_are_the_same_path() -> None:
    assert files.checked("/memories/u\u0308.md") == files.checked("/memories/\u00fc.md")


def test_a_folder_is_listed_two_levels_deep_with_sizes_and_without_hidden_items() -> None:
    sizes = {
        "/memories/notes.md": 1536,
        "/memories/team/ada.md": 10,
        "/memories/team/more/deep.md": 1014,
        "/memories/.secret": 5,
        "/memories/.git/config": 5,
        "/memories/node_modules/x.js": 5,
    }
    assert files.folder_view("/memories", sizes) == (
        "Here're the files and directories up to 2 levels deep in /memories, excluding hidden items and node_modules:\n"
        "2.5K\t/memories\n"
        "1.5K\t/memories/notes.md\n"
        "1K\t/memories/team/\n"
        "10B\t/memories/team/ada.md\n"
        "1014B\t/memories/team/more/"
    )


def test_an_empty_folder_is_listed_as_such() -> None:
    assert files.folder_view("/memories", {}).endswith(":\n0B\t/memories")


def test_a_file_is_shown_with_its_lines_numbered() -> None:
    assert files.file_view("/memories/a", "one\ntwo\n") == (
        "Here's the content of /memories/a with line numbers:\n     1\tone\n     2\ttwo"
    )


def test_a_range_of_a_file_is_shown() -> None:
    text = "\n".join("abcdef")
    assert files.file_view("/memories/a", text, [2, 3]).splitlines()[1:] == ["     2\tb", "     3\tc"]
    assert files.file_view("/memories/a", text, [5, -1]).splitlines()[1:] == ["     5\te", "     6\tf"]


@pytest.mark.parametrize("lines", [[0, 1], [3, 2], [1, 9], [7, -1], [-3, -1]])
def test_lines_that_there_are_not_cannot_be_shown(lines: list[int]) -> None:
    with pytest.raises(UsageError, match="Invalid `view_range` parameter"):
        files.file_view("/memories/a", "\n".join("abcdef"), lines)


def test_what_one_answer_has_no_room_for_is_named_and_can_be_shown_next() -> None:
    text = "\n".join(f"line {number} " + "x" * 90 for number in range(1, 501))
    shown = files.file_view("/memories/a", text)
    assert len(shown.encode()) < VIEW_BYTES_MAX + 200
    *_, last, note = shown.splitlines()
    number = int(last.split("\t")[0])
    assert note == f"(There is more: view lines {number + 1} to 500 with `view_range`.)"
    assert files.file_view("/memories/a", text, [number + 1, -1]).splitlines()[1].startswith(f"{number + 1:6}\t")


def test_a_line_that_is_longer_than_an_answer_is_cut_and_said_to_be() -> None:
    shown = files.file_view("/memories/a", "é" * VIEW_BYTES_MAX)
    assert len(shown.encode()) < VIEW_BYTES_MAX
    assert shown.endswith("(Line 1 is longer than one answer shows, and was cut.)")


def test_a_text_that_occurs_once_is_replaced_and_shown_with_what_is_around_it() -> None:
    edited = files.replaced("/memories/a", "one\ntwo\nthree\n", "two", "2\n2.5")
    assert edited == Edited(
        "one\n2\n2.5\nthree\n",
        "The memory file has been edited. Here is the snippet showing the change (with line numbers):\n"
        "     1\tone\n     2\t2\n     3\t2.5\n     4\tthree",
    )


def test_a_text_that_does_not_occur_is_not_replaced() -> None:
    with pytest.raises(UsageError) as refused:
        files.replaced("/memories/a", "one\n", "One", "1")
    assert refused.value.message == (
        "No replacement was performed, old_str `One` did not appear verbatim in /memories/a."
    )


@pytest.mark.parametrize(("text", "lines"), [("a\nb a\nc", "1, 2"), ("aa", "1, 1")])
def test_a_text_that_occurs_more_than_once_is_not_replaced(text: str, lines: str) -> None:
    with pytest.raises(UsageError) as refused:
        files.replaced("/memories/a", text, "a", "x")
    assert refused.value.message == (
        f"No replacement was performed. Multiple occurrences of old_str `a` in lines: {lines}. "
        "Please ensure it is unique"
    )


def test_occurrences_that_overlap_are_more_than_one() -> None:
    with pytest.raises(UsageError, match="Multiple occurrences"):
        files.replaced("/memories/a", "ababa", "aba", "x")


@pytest.mark.parametrize(
    ("text", "after", "what", "then"),
    [
        ("", 0, "a", "a"),
        ("", 0, "a\n", "a\n"),
        ("b\n", 0, "a", "a\nb\n"),
        ("a\nc\n", 1, "b\n", "a\nb\nc\n"),
        ("a\nb", 2, "c", "a\nb\nc"),
        ("a\nb", 2, "c\n", "a\nb\nc\n"),
        ("a\nb\n", 2, "c", "a\nb\nc\n"),
        ("a\n", 1, "b\nc", "a\nb\nc\n"),
    ],
)
def test_a_text_is_put_after_a_line(text: str, after: int, what: str, then: str) -> None:
    assert files.inserted("/memories/a", text, after, what) == Edited(then, "The file /memories/a has been edited.")


@pytest.mark.parametrize("after", [-1, 3])
def test_nothing_is_put_after_a_line_that_there_is_not(after: int) -> None:
    with pytest.raises(UsageError) as refused:
        files.inserted("/memories/a", "a\nb\n", after, "c")
    assert refused.value.message == (
        f"Error: Invalid `insert_line` parameter: {after}. It should be within the range of lines of the file: [0, 2]"
    )


@pytest.mark.parametrize("path", ["/memories", "/memories/a", "/memories/folder"])
def test_a_file_is_not_made_where_something_is(path: str) -> None:
    with pytest.raises(Conflict) as refused:
        files.check_free(path, ["/memories/a", "/memories/folder/b"])
    assert refused.value.message == f"Error: File {path} already exists"


def test_a_file_holds_no_others() -> None:
    with pytest.raises(Conflict, match="/memories/a is a file"):
        files.check_free("/memories/a/b", ["/memories/a"])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("/memories", "/memories/x", "itself cannot be renamed"),
        ("/memories/a", "/memories/a/b", "cannot be moved into itself"),
        ("/memories/a", "/memories/b", "Error: The destination /memories/b already exists"),
        ("/memories/a", "/memories/folder", "Error: The destination /memories/folder already exists"),
        ("/memories/a", "/memories", "Error: The destination /memories already exists"),
        ("/memories/a", "/memories/b/c", "Error: /memories/b is a file"),
    ],
)
def test_nothing_is_renamed_to_where_it_cannot_be(old: str, new: str, problem: str) -> None:
    with pytest.raises((Conflict, UsageError)) as refused:
        files.check_destination(old, new, ["/memories/b", "/memories/folder/c"])
    assert problem in refused.value.message


def test_what_is_not_there_is_said_not_to_be() -> None:
    found: list[NotFound] = [files.missing("/memories/a"), files.absent("/memories/a")]
    assert [error.message for error in found] == [
        "The path /memories/a does not exist. Please provide a valid path.",
        "Error: The path /memories/a does not exist",
    ]
