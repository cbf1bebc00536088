"""The rules of the built-in agent `coder`, call by call."""

import tomllib
from importlib import resources
from typing import Any

import msgspec
import pytest

from ostler.domain.agent import Limits
from ostler.domain.constraint.compile import compile_policy
from ostler.domain.constraint.facts import Facts
from ostler.domain.constraint.policy import Policy
from ostler.domain.constraint.verdict import Verdict
from ostler.domain.model import ModelSettings

DATA = tomllib.loads((resources.files("ostler.app") / "builtin" / "coder.toml").read_text())
POLICY = msgspec.convert(DATA["policy"], Policy)

ALLOWED = [
    "python3 -B -m unittest",
    "python -m pytest -q",
    "python3.12 -m unittest",
    "pytest",
    "python3 -c print('no network in a sandbox')",
    "ls -la src",
    "cat rm.txt",
    "grep -rn curl .",
    "git status",
    "git diff HEAD",
    "git log --oneline -5",
    "make test",
]
APPROVED_FIRST = {
    "ask-before-commit": ["git commit -am fix", "git commit", "/usr/bin/git commit -m x", "git -C . commit -m x"],
    "ask-before-unknown-programs": [
        "bash -c rm\0-rf\0.",
        "sh setup.sh",
        "env curl https://example.com",
        "rm notes.txt",
        "find . -delete",
        "git reset --hard",
        "git clean -fdx",
        "./python3 -c pass",
        "/tmp/ls",
        "make install",
        "lsof",
        "xargs rm",
    ],
}
DENIED = {
    "no-recursive-deletion": [
        "rm -rf .",
        "rm -fr .",
        "rm -r -f .",
        "rm -f -r src",
        "rm -Rf src",
        "rm --recursive src",
        "rm --recurs src",
        "rm src -rf",
        "rm -vfr src",
        "/bin/rm -rf /",
        "../bin/rm -r x",
    ],
    "no-network": [
        "curl https://example.com/setup.sh",
        "/usr/bin/curl -s x",
        "wget x",
        "nc -l 80",
        "ssh host",
        "/usr/bin/scp a b:",
        "rsync a b:",
    ],
    "no-downloads": [
        "pip install requests",
        "pip3 install x",
        "python3 -m pip install x",
        "/usr/bin/python3 -m pip install x",
        "git push",
        "git push origin main",
        "git clone https://example.com/x",
        "git fetch",
        "git pull --rebase",
        "/usr/bin/git push",
        "git -C . push",
        "npm install x",
    ],
    "no-more-privileges": ["sudo ls", "/usr/bin/sudo rm -rf .", "su root", "doas ls"],
}


def words(line: str) -> list[str]:
    """A NUL stands for a space inside of an argument."""
    return [word.replace("\0", " ") for word in line.split(" ")]


def pairs(table: dict[str, list[str]]) -> list[Any]:
    return [pytest.param(rule, line, id=line.replace("\0", "_")) for rule, lines in table.items() for line in lines]


def judge(tool: str, arguments: dict[str, Any]) -> Verdict:
    return compile_policy(POLICY).judge(Facts(tool=tool, args=arguments))


def run(line: str) -> tuple[str, str]:
    verdict = judge("shell.run", {"argv": words(line), "cwd": ".", "stdin": ""})
    return verdict.effect, verdict.rule


@pytest.mark.parametrize("line", ALLOWED)
def test_a_harmless_program_is_allowed(line: str) -> None:
    assert run(line) == ("allow", "run-programs")


@pytest.mark.parametrize(("rule", "line"), pairs(APPROVED_FIRST))
def test_a_person_is_asked_first(rule: str, line: str) -> None:
    assert run(line) == ("require", rule)


@pytest.mark.parametrize(("rule", "line"), pairs(DENIED))
def test_a_forbidden_program_is_denied(rule: str, line: str) -> None:
    assert run(line) == ("deny", rule)


@pytest.mark.parametrize("tool", ["files.list", "files.read", "files.search", "files.write", "files.edit"])
@pytest.mark.parametrize(
    ("path", "effect"),
    [
        ("src/app.py", "allow"),
        (".", "allow"),
        ("notes..txt", "allow"),
        (".gitignore", "allow"),
        ("..", "deny"),
        ("../../etc/passwd", "deny"),
        ("src/../../x", "deny"),
        ("src/..", "deny"),
        ("/etc/passwd", "deny"),
        ("~/.ssh/id_rsa", "deny"),
        (".git/config", "deny"),
        ("vendor/x/.git/hooks/pre-commit", "deny"),
    ],
)
def test_files_are_touched_inside_of_the_workspace_only(tool: str, path: str, effect: str) -> None:
    assert judge(tool, {"path": path}).effect == effect


def test_a_tool_that_no_rule_speaks_of_is_denied() -> None:
    assert judge("mail.send", {"to": "ada"}).effect == "deny"


def test_a_call_without_the_fact_that_a_rule_needs_is_denied() -> None:
    assert judge("files.read", {}).effect == "deny"
    assert judge("shell.run", {}).effect == "deny"


def test_every_rule_has_a_name_of_its_own_and_says_why() -> None:
    names = [rule.name for rule in POLICY.rules]
    assert len(set(names)) == len(names)
    assert all(rule.because for rule in POLICY.rules if rule.effect != "allow")
    assert all(rule.within_s for rule in POLICY.rules if rule.effect == "require")


def test_the_rest_of_the_file_is_an_agent() -> None:
    assert (DATA["name"], DATA["version"], DATA["tools"]) == ("coder", 1, ["files.*", "shell.run"])
    assert "workspace" in DATA["instructions"]
    assert msgspec.convert(DATA["limits"], Limits).steps == 60
    assert msgspec.convert(DATA["settings"], ModelSettings).max_tokens == 8192
