"""Suites and files of roles are read whole or not at all, and every mistake is named with its place."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from ostler.app.suites import RolesFile, Suite, read_roles, read_suite, specs
from ostler.domain.tool import Role
from ostler.kernel.errors import DefinitionInvalid, NotFound
from tests.tidy.rules import ROOT

DATA = ROOT / "tests" / "data" / "suites"
OFFICE = DATA / "office.json"
ROLES = DATA / "office.toml"


def suite() -> Suite:
    return read_suite(OFFICE)


def problems(roles: str, folder: Path) -> dict[str, str]:
    """What is wrong with the office's roles if this is put at their end."""
    file = folder / "roles.toml"
    file.write_text(roles)
    with pytest.raises(DefinitionInvalid) as raised:
        specs(suite(), read_roles(file), source=str(file))
    return dict(raised.value.problems)


def test_what_a_file_says_of_a_tool_is_in_its_spec() -> None:
    known = specs(suite(), read_roles(ROLES), source="roles")
    assert set(known) == {tool.name for tool in suite().tools}
    assert (known["send_mail"].roles, known["send_mail"].destinations) == (("sends_out",), ("to", "cc"))
    assert (known["write_note"].roles, known["write_note"].destinations) == ((), ())


def test_a_file_may_know_more_tools_than_a_suite_has() -> None:
    known = read_roles(ROLES)
    more = RolesFile(known.tools | {"other": known.tools["pay"]})
    assert specs(suite(), more, source="roles") == specs(suite(), known, source="roles")


@pytest.mark.parametrize(
    ("old", "new", "place", "says"),
    [
        ('[tools.read_note]\nroles = ["reads_private"]', "", "tools.read_note", "`roles = []`"),
        ("[tools.read_note]", "[tools.raed_note]", "tools.read_note", "did you mean it by 'raed_note'?"),
        ('["sends_out"]\ndestinations = ["to", "cc"]', '["send_out"]', "tools.send_mail.roles[0]", "'sends_out'"),
        ('["to", "cc"]', '["to", "whom"]', "tools.send_mail.destinations[1]", "to, cc, text"),
        ('["to", "cc"]', '["to", "txet"]', "tools.send_mail.destinations[1]", "did you mean 'text'?"),
        ('destinations = ["to", "cc"]', "", "tools.send_mail.destinations", "(to, cc, text)"),
        ('destinations = ["to", "cc"]', 'destination = ["to"]', "tools.send_mail.destination", "'destinations'"),
        ('destinations = ["to", "cc"]', 'destinations = "to"', "tools.send_mail.destinations", "array"),
        ("roles = []", "", "tools.write_note.roles", "is missing"),
        ("[tools.read_mail]", "[tool.read_mail]", "tool", "did you mean 'tools'?"),
        ("[tools.read_mail]", "[tools.read_mail", "", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_of_roles_is_named(old: str, new: str, place: str, says: str, tmp_path: Path) -> None:
    text = ROLES.read_text()
    assert old in text
    assert says in problems(text.replace(old, new, 1), tmp_path)[place]


def test_the_page_about_roles_shows_a_file_that_can_be_read_and_explains_every_role(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "roles.md").read_text("utf-8")
    file = tmp_path / "roles.toml"
    file.write_text("\n".join(line[4:] for line in page.splitlines() if line.startswith("    ")))
    assert len(read_roles(file).tools) == 3
    assert [role for role in get_args(Role) if f"| `{role}` | " not in page] == []


@pytest.mark.parametrize("file", sorted((ROOT / "examples" / "agentdojo").glob("*.toml")), ids=lambda file: file.stem)
def test_the_roles_of_the_public_suites_can_be_read(file: Path) -> None:
    assert read_roles(file).tools


def test_no_destinations_means_all_arguments(tmp_path: Path) -> None:
    file = tmp_path / "roles.toml"
    file.write_text(ROLES.read_text().replace('["to", "cc"]', "[]", 1))
    assert specs(suite(), read_roles(file), source="roles")["send_mail"].destinations == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data.pop("tools"), "tools"),
        (lambda data: data["user_tasks"]["answer"]["calls"][0].pop("result"), "result"),
        (lambda data: data["user_tasks"]["answer"]["calls"][0].update(function="raed_mail"), "raed_mail"),
        (lambda data: data["injection_tasks"]["wipe"]["calls"][0].update(function="raed_mail"), "injection_tasks.wipe"),
        (lambda data: data["user_tasks"]["answer"]["visible_injection_vectors"].update(mail_footer=2), "no call 2"),
        (lambda data: data["user_tasks"]["answer"]["visible_injection_vectors"].update(mail_footer=-1), "no call -1"),
    ],
)
def test_a_mistake_in_a_suite_is_named(change, says: str, tmp_path: Path) -> None:
    data = msgspec.json.decode(OFFICE.read_bytes())
    change(data)
    file = tmp_path / "suite.json"
    file.write_bytes(msgspec.json.encode(data))
    with pytest.raises(DefinitionInvalid, match=says):
        read_suite(file)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for read in (read_suite, read_roles):
        with pytest.raises(NotFound, match="nothing-here"):
            read(tmp_path / "nothing-here")


def test_a_file_that_is_no_text_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    for read in (read_suite, read_roles):
        with pytest.raises(DefinitionInvalid):
            read(tmp_path / "x")
