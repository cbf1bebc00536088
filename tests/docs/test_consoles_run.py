"""What pages show of the command line happens: their commands run in order, on their files, with the output shown."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from ostler.app import plugins
from ostler.cli import cli
from ostler.domain.model import Message, ModelRequest, Reply, ToolMessage, UserMessage
from ostler.testing import calls
from tests.tidy.rules import ROOT

PAGES = [
    ROOT / "docs/how-to" / name
    for name in (
        "approve-calls.md",
        "choose-models.md",
        "halt-and-change-policies.md",
        "resilience.md",
        "fitness.md",
        "memory.md",
    )
]
FENCED = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """A command, the code that it is to exit with (None: not 0), and what is to be among the lines that it prints."""

    words: list[str]
    code: int | None
    said: list[str]


def steps(console: str) -> Iterator[Step]:
    """The commands of a block. `# exits with 3` and `# refused: …` are what they say, and `…` stands for any text."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        line, *said = part.splitlines()
        command, _, comment = line.partition("  # ")
        refusal = re.match(r"refused: (.*)", comment)
        exits = re.match(r"exits with (\d+)", comment)
        code = None if refusal else int(exits[1]) if exits else 0
        yield Step(shlex.split(command)[1:], code, [*said, *([f"…{refusal[1]}…"] if refusal else [])])


def payer(request: ModelRequest) -> Reply | str:
    """Pays or deploys what it was told to, once; then says what came of it. Ships as it did before, if it knows how."""
    first, *rest = request.messages
    assert isinstance(first, UserMessage)
    if first.text.startswith("Ship "):
        return shipper(rest)
    if deployed := re.fullmatch(r"Deploy (\w+)", first.text):
        return Reply(rest[-1].text) if rest else calls(("deploy", {"version": deployed[1]}))
    wanted = re.fullmatch(r"Pay (\d+) to (\w+)", first.text)
    if rest or wanted is None:
        observed = json.loads(rest[-1].text) if rest else {}
        return Reply(observed.get("data") or str(observed))
    return calls(("pay", {"amount": int(wanted[1]), "to": wanted[2]}))


def shipper(seen: Sequence[Message]) -> Reply:
    if any("make ship" in message.text for message in seen if isinstance(message, UserMessage)):
        return Reply("Shipped with make ship, which I knew.")
    if any(isinstance(message, ToolMessage) for message in seen):
        return Reply("Shipped, after some looking.")
    return calls(("memory.remember", {"text": "The site is shipped with make ship.", "tags": ["ship"]}))


class Terminal:
    """Runs commands in this process. `SESSION` is the newest session, `DIGEST` the newest proposal."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def run(self, words: list[str]) -> Result:
        given = [re.sub(r"SESSION|DIGEST", lambda found: self._names[found[0]], word) for word in words]
        done = CliRunner().invoke(cli, given, prog_name="ostler")
        for session in re.findall(r"^session (ses_\w+) in", done.stderr, re.MULTILINE):
            self._names["SESSION"] = session
        if words[:2] == ["policy", "propose"]:
            self._names["DIGEST"] = done.stdout.strip()
        return done


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.STRATEGIES, "payer", f"{__name__}:payer")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    tools = ["tools.py"] if "```python tools.py" in page.read_text("utf-8") else []
    Path("ostler.toml").write_text(f'model = "strategy:payer"\ntools = {json.dumps(tools)}\n')
    terminal, ran = Terminal(), 0
    for language, name, text in FENCED.findall(page.read_text("utf-8")):
        if name:
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(text)
        elif language == "console":
            for step in steps(text):
                check(step, terminal.run(step.words))
                ran += 1
    assert ran >= 5


def check(step: Step, done: Result) -> None:
    """It has exited as it should, and printed these lines in this order."""
    told = f"ostler {shlex.join(step.words)}: {done.exit_code}\n{done.output}"
    assert done.exit_code == step.code if step.code is not None else done.exit_code != 0, told
    lines = iter(" ".join(line.split()) for line in done.output.splitlines())
    for said in step.said:
        pattern = ".*".join(re.escape(part) for part in " ".join(said.split()).split("…"))
        assert any(re.fullmatch(pattern, line) for line in lines), f"{said!r} is not in what is printed by {told}"


def test_a_page_that_is_not_true_is_noticed() -> None:
    done = Terminal().run(["version"])
    for console in (
        "$ ostler version  # exits with 1",
        "$ ostler version  # refused: it is secret",
        "$ ostler version\nvermouth …",
    ):
        (step,) = steps(console)
        with pytest.raises(AssertionError):
            check(step, done)
