"""Commands as a tool: what models are told, in whichever sandbox they ran."""

import asyncio
import shutil
import subprocess

import msgspec
import pytest

from ostler.adapters.sandbox.bwrap import Bubblewrap
from ostler.adapters.sandbox.none import Unconfined
from ostler.adapters.sandbox.process import Completed
from ostler.adapters.tools.shell import END_CHARS, ShellTools
from ostler.domain.tool import ToolRequest
from ostler.kernel.errors import SandboxUnavailable
from ostler.testing.contracts.tool_host import Endless, ToolHostContract
from tests.adapters.sandbox.processes import processes_with


class Recorder:
    """Stands for a sandbox: remembers what it was told and answers as it is told."""

    def __init__(self, answer=None):
        self.answer = answer or Completed(0, "")
        self.told = []
        self.probes = 0

    async def probe(self):
        self.probes += 1

    async def run(self, argv, **how):
        self.told.append((argv, how))
        return self.answer


def request(folder, *argv, sandbox="bwrap", timeout_s=60.0, **more):
    return ToolRequest(
        tool="shell.run",
        arguments={"argv": list(argv), **more},
        key="ses_1/1.1",
        tenant="default",
        timeout_s=timeout_s,
        workspace=str(folder) if folder else None,
        sandbox=sandbox,
    )


async def perform(answer, call):
    return await ShellTools({"bwrap": Recorder(answer)}).perform(call)


async def test_a_failing_program_is_an_answer_with_its_exit_code(tmp_path):
    outcome = await perform(Completed(3, "no\n"), request(tmp_path, "false"))
    assert outcome.ok
    assert msgspec.json.decode(outcome.output) == {"exit": 3, "output": "no\n"}


async def test_a_long_answer_shows_the_end_of_the_output_at_its_beginning(tmp_path):
    done = Completed(1, "x" * 40_000 + "2 failed", dropped_bytes=7, ended_by="memory")
    outcome = await perform(done, request(tmp_path, "make"))
    answer = msgspec.json.decode(outcome.output)
    assert list(answer) == ["exit", "ended_by", "dropped_bytes", "output_ends_with", "output"]
    assert answer["ended_by"] == "memory limit"
    assert answer["output_ends_with"].endswith("2 failed")
    assert "2 failed" in outcome.output[: END_CHARS + 200]


async def test_a_program_that_was_stopped_in_time_leaves_what_it_said(tmp_path):
    outcome = await perform(Completed(137, "half way", ended_by="wall"), request(tmp_path, "slow", timeout_s=10.0))
    assert (outcome.ok, outcome.kind) == (False, "timeout")
    assert "9 s" in outcome.output
    assert "half way" in outcome.output


@pytest.mark.parametrize(
    ("call_s", "asked_s", "wall_s"), [(60.0, None, 59.0), (1.0, None, 0.9), (60.0, 5.0, 5.0), (60.0, 600.0, 59.0)]
)
async def test_a_command_is_stopped_before_its_call_would_be(tmp_path, call_s, asked_s, wall_s):
    sandbox = Recorder()
    call = request(tmp_path, "true", timeout_s=call_s)
    arguments = {"argv": ["true"]} if asked_s is None else {"argv": ["true"], "timeout_s": asked_s}
    await ShellTools({"bwrap": sandbox}).perform(msgspec.structs.replace(call, arguments=arguments))
    assert sandbox.told[0][1]["wall_s"] == pytest.approx(wall_s)


async def test_the_words_reach_the_program_as_they_are(tmp_path):
    (tmp_path / "inner").mkdir()
    sandbox = Recorder()
    words = ["echo", "$HOME; rm -rf *", "", "a b"]
    outcome = await ShellTools({"bwrap": sandbox}).perform(request(tmp_path, *words, cwd="inner", stdin="ü"))
    assert outcome.ok
    argv, how = sandbox.told[0]
    assert argv == words
    assert (how["workspace"], how["cwd"], how["stdin"]) == (str(tmp_path), "inner", "ü".encode())


@pytest.mark.parametrize(
    ("words", "cwd", "kind"),
    [
        ([], ".", "invalid"),
        ([""], ".", "invalid"),
        (["a\0b"], ".", "invalid"),
        (["true"], "..", "blocked"),
        (["true"], "/tmp", "blocked"),
        (["true"], "link", "blocked"),
        (["true"], "nowhere", "not_found"),
        (["true"], "file", "blocked"),
    ],
)
async def test_a_command_that_makes_no_sense_never_starts(tmp_path, words, cwd, kind):
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "file").touch()
    sandbox = Recorder()
    outcome = await ShellTools({"bwrap": sandbox}).perform(request(tmp_path, *words, cwd=cwd))
    assert (outcome.ok, outcome.kind, sandbox.told) == (False, kind, [])


async def test_without_a_workspace_nothing_runs():
    outcome = await perform(None, request(None, "true"))
    assert (outcome.ok, outcome.kind) == (False, "blocked")


async def test_a_sandbox_that_is_not_there_is_never_replaced_by_another(tmp_path):
    other = Recorder()
    with pytest.raises(SandboxUnavailable, match="bwrap"):
        await ShellTools({"none": other}).perform(request(tmp_path, "true"))
    assert other.told == []


async def test_whether_commands_can_run_is_said_before_one_is_to(tmp_path):
    sandbox = Recorder()
    tools = ShellTools({"bwrap": sandbox, "broken": Bubblewrap(program="no-such-bwrap")})
    await tools.ready("bwrap")
    assert (sandbox.probes, sandbox.told) == (1, [])
    with pytest.raises(SandboxUnavailable, match="no-such-bwrap") as caught:
        await tools.ready("broken")
    assert caught.value.hint
    with pytest.raises(SandboxUnavailable, match="there is: broken, bwrap"):
        await tools.ready("other")


# Who commits


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The user's git settings, in their home; the system's do not count."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_CONFIG_GLOBAL", "GIT_DIR", "XDG_CONFIG_HOME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    return home / ".gitconfig"


ADA = """
[user]
    name = Ada Lovelace
    email = ada@example.org
    signingKey = secret-key
[credential]
    helper = store
"""


def git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


async def environment_in(folder):
    sandbox = Recorder()
    await ShellTools({"bwrap": sandbox}).perform(request(folder, "git", "commit"))
    return sandbox.told[0][1]["environment"]


async def test_a_command_knows_who_commits_and_nothing_else_of_the_users_settings(tmp_path, settings):
    settings.write_text(ADA)
    assert await environment_in(tmp_path) == {
        "GIT_AUTHOR_NAME": "Ada Lovelace",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada Lovelace",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }


async def test_what_a_repository_says_of_its_committers_wins(tmp_path, settings):
    settings.write_text(ADA)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.email", "ada@work.example.org")
    found = await environment_in(tmp_path)
    assert (found["GIT_AUTHOR_NAME"], found["GIT_AUTHOR_EMAIL"]) == ("Ada Lovelace", "ada@work.example.org")


async def test_nobody_is_made_up_who_is_not_named(tmp_path, settings, monkeypatch):
    assert await environment_in(tmp_path) == {}
    settings.write_text("[user\n")
    assert await environment_in(tmp_path) == {}
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no git
    assert await environment_in(tmp_path) == {}


class ShellContract(ToolHostContract):
    sandbox = "none"

    def make(self):
        return ShellTools({"bwrap": Bubblewrap(), "none": Unconfined()})

    def harmless(self, folder):
        return request(folder, "echo", "hello", sandbox=self.sandbox)

    def endless(self, folder):
        # the grandchild leaves the session and the process group, ignores SIGTERM and has closed its output
        word = f"ostler-endless-{self.sandbox}-{id(self)}"
        grandchild = f"trap '' TERM; : {word}; echo > begun; while :; do read line < fifo; done"
        script = 'mkfifo fifo; setsid sh -c "$0" >/dev/null 2>&1 & while :; do wait; done'
        return Endless(
            request(folder, "sh", "-c", script, grandchild, sandbox=self.sandbox),
            has_begun=(folder / "begun").exists,
            is_alive=lambda: bool(processes_with(word)),
        )


class TestShellWithoutASandboxKeepsTheContract(ShellContract):
    pass


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
class TestShellInBubblewrapKeepsTheContract(ShellContract):
    sandbox = "bwrap"

    async def test_what_a_program_writes_is_in_the_workspace(self, host, tmp_path):
        outcome = await host.perform(request(tmp_path, "python3", "-c", "open('a.txt', 'w').write('x')"))
        assert msgspec.json.decode(outcome.output) == {"exit": 0, "output": ""}
        assert (tmp_path / "a.txt").read_text() == "x"

    async def test_a_commit_is_made_by_the_user_whose_settings_are_at_home(self, host, tmp_path, settings):
        settings.write_text(ADA)
        folder = tmp_path / "project"
        folder.mkdir()
        git(folder, "init", "--quiet")
        outcome = await host.perform(request(folder, "git", "commit", "--allow-empty", "-m", "Begin"))
        assert msgspec.json.decode(outcome.output)["exit"] == 0, outcome.output
        assert git(folder, "log", "--format=%an <%ae> %cn") == "Ada Lovelace <ada@example.org> Ada Lovelace\n"

    async def test_many_commands_at_once_keep_apart(self, host, tmp_path):
        calls = [host.perform(request(tmp_path, "echo", str(number))) for number in range(5)]
        outputs = [msgspec.json.decode(outcome.output)["output"] for outcome in await asyncio.gather(*calls)]
        assert outputs == [f"{number}\n" for number in range(5)]
