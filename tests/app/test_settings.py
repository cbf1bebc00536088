"""Where settings come from, and which one wins."""

import pwd
from pathlib import Path

import pytest

from ostler.app.providers import Keys
from ostler.app.settings import PROJECT_FILE, resolve, shown
from ostler.domain.model import Price
from ostler.kernel.errors import ConfigurationError, DefinitionInvalid


def project(folder: Path, text: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROJECT_FILE).write_text(text)
    return folder


def test_an_option_wins_over_the_environment_over_the_project_over_the_user(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", 'store = "sqlite:///data/own.db"')
    environ = {"HOME": "/home-of-anna", "OSTLER_STORE": "sqlite:////env.db"}
    assert resolve(environ, folder, store="memory:").store == "memory:"
    assert resolve(environ, folder).store == "sqlite:////env.db"
    del environ["OSTLER_STORE"]
    assert resolve(environ, folder).store == f"sqlite:///{folder}/data/own.db"
    assert resolve(environ, project(folder)).store == f"sqlite:///{folder}/.ostler/ostler.db"
    (folder / PROJECT_FILE).unlink()
    assert resolve(environ, folder).store == "sqlite:////home-of-anna/.local/share/ostler/ostler.db"
    assert resolve(environ | {"XDG_DATA_HOME": "/data"}, folder).store == "sqlite:////data/ostler/ostler.db"


def test_the_project_file_holds_for_the_folders_below_it_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    text = """
        model = "ollama:qwen3"
        agents = "crew"
        tools = ["tools.py"]
        sandbox = "none"
        [prices."openai:gpt-x"]
        input_microusd = 3_000_000
        output_microusd = 15_000_000
    """
    folder = project(tmp_path, text)
    below = folder / "src" / "deep"
    below.mkdir(parents=True)
    settings = resolve({}, below)
    assert (settings.folder, settings.is_project, settings.model, settings.sandbox) == (
        folder,
        True,
        "ollama:qwen3",
        "none",
    )
    assert (settings.agents, settings.tools) == (folder / "crew", (folder / "tools.py",))
    assert settings.prices == {"openai:gpt-x": Price(3_000_000, 15_000_000)}


def test_without_a_project_file_the_working_folder_stands_for_it(tmp_path: Path) -> None:
    settings = resolve({}, tmp_path)
    assert (settings.folder, settings.is_project, settings.agents) == (tmp_path, False, tmp_path / "agents")
    assert (settings.model, settings.sandbox) == (None, "bwrap")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("store =", [("", "is not valid TOML")]),
        ("stor = 'x'", [("stor", "is unknown (did you mean 'store'?)")]),
        ("tools = 'x'\nmodel = 3", [("tools", "expected `array`"), ("model", "expected `str`")]),
        (
            "[prices.'a:b']\ninput_microusd = 'x'\n[prices.'c:d']",
            [
                ("prices.a:b.input_microusd", "expected `int`"),
                ("prices.a:b.output_microusd", "is missing"),
                ("prices.c:d.input_microusd", "is missing"),
                ("prices.c:d.output_microusd", "is missing"),
            ],
        ),
    ],
)
def test_every_problem_of_a_project_file_is_named(tmp_path: Path, text: str, problems: list[tuple[str, str]]) -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        resolve({}, project(tmp_path, text))
    assert invalid.value.source == str(tmp_path / PROJECT_FILE)
    assert len(invalid.value.problems) == len(problems)
    for (path, problem), (expected, beginning) in zip(invalid.value.problems, problems, strict=True):
        assert path == expected
        assert problem.startswith(beginning)


def test_a_project_file_that_is_no_text_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / PROJECT_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DefinitionInvalid, match="UTF-8") as invalid:
        resolve({}, tmp_path)
    assert invalid.value.source == str(tmp_path / PROJECT_FILE)


def test_a_sandbox_that_does_not_exist_is_refused_together_with_the_other_problems(tmp_path: Path) -> None:
    with pytest.raises(DefinitionInvalid) as invalid:
        resolve({}, project(tmp_path, 'sandbox = "docker"\nmodel = 3'))
    assert [path for path, _ in invalid.value.problems] == ["sandbox", "model"]
    assert "'docker'" in invalid.value.message


def test_a_store_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        resolve({}, tmp_path, store="")


def test_it_is_known_whether_somebody_named_the_store(tmp_path: Path) -> None:
    assert resolve({}, tmp_path, store="sqlite:///x.db").is_store_named
    assert resolve({"OSTLER_STORE": "sqlite:///x.db"}, tmp_path).is_store_named
    assert not resolve({}, project(tmp_path, 'store = "sqlite:///x.db"')).is_store_named


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "there"}, {"XDG_DATA_HOME": "data"}])
def test_without_an_absolute_home_the_system_s_own_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    known = pwd.struct_passwd(("anna", "x", 1, 1, "", "/home-of-anna", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: known)
    assert resolve(environ, tmp_path).store == "sqlite:////home-of-anna/.local/share/ostler/ostler.db"


def test_whoever_has_no_home_is_told_to_name_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigurationError) as caught:
        resolve({}, tmp_path)
    assert "OSTLER_STORE" in caught.value.hint
    assert resolve({}, tmp_path, store="memory:").store == "memory:"


def test_credentials_come_from_the_environment_and_are_never_shown(tmp_path: Path) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-a", "OPENAI_API_KEY": "sk-o", "OPENAI_BASE_URL": "", "OLLAMA_HOST": "box:1"}
    settings = resolve(environ, tmp_path)
    assert settings.keys == Keys("sk-a", None, "sk-o", None, "http://box:1")
    assert "sk-" not in repr(settings)
    assert resolve({}, tmp_path).keys.ollama_host == "http://127.0.0.1:11434"
    assert resolve({"OLLAMA_HOST": "https://box"}, tmp_path).keys.ollama_host == "https://box"


def test_what_is_shown_of_a_store_has_no_secret_in_it():
    url = "postgresql://ada:s3cret@db.example:5432/ostler?schema=barn&password=s3cret&sslmode=require"
    assert shown(url) == "postgresql://db.example:5432/ostler?schema=barn"
    assert shown("sqlite:///ostler.db") == "sqlite:///ostler.db"
    assert shown("memory:") == "memory:"
