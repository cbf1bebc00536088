"""Writes the pages of docs/reference, which say what the code says: Python, events, errors, the command line.

`--check` compares instead, and fails if a page is out of date.
"""

import inspect
import re
import sys
import typing
from pathlib import Path

import click
import msgspec

import ostler
from ostler.cli import cli
from ostler.cli.exits import MEANINGS
from ostler.domain.audit import AuditEvent
from ostler.domain.boot import WorkerEvent
from ostler.domain.changes import ModelChanged
from ostler.domain.directory import IdentityEvent
from ostler.domain.fitness.events import FitnessEvent
from ostler.domain.governance import GovernanceEvent
from ostler.domain.housekeeping import HousekeepingEvent
from ostler.domain.session.events import SessionEvent
from ostler.kernel import errors
from ostler.kernel.event import Event

DOCS = Path(__file__).parent.parent / "docs" / "reference"
MADE = "<!-- made by scripts/reference.py from the code; `make reference` writes it anew -->\n"

EVENTS_ARE = """\
Every event is a JSON object with a `type`; fields that have their default are left out. Events are for ever: fields
are added with defaults, and a new meaning is a new type. Beside it the log keeps `seq`, `position`, the time in
microseconds and the hash of the chain."""
ERRORS_ARE = """\
An error says what happened, why, and what to do; `code` is stable, `retryable` says whether the same thing may work
later. With `--json` an error is an object with `code`, `message`, `hint`, `retryable` and `facts` on standard error."""


def events() -> str:
    page = [
        "# Events",
        "",
        MADE,
        EVENTS_ARE,
    ]
    for title, family in (
        ("Of a session", SessionEvent),
        ("Of a worker", WorkerEvent),
        ("Of a tenant: governance", GovernanceEvent),
        ("Of a tenant: identity", IdentityEvent),
        ("Of a tenant: housekeeping", HousekeepingEvent),
        ("Of a tenant: audit", AuditEvent),
        ("Of a tenant: models", ModelChanged),
        ("Of a tenant: fitness", FitnessEvent),
    ):
        page += ["", f"## {title}"]
        for kind in typing.get_args(family) or (family,):
            page += ["", *_event(kind)]
    return "\n".join(page) + "\n"


def _event(kind: type[Event]) -> list[str]:
    text = inspect.getdoc(kind) or ""
    own_text = text if text != inspect.getdoc(Event) else ""
    lines = [f"### `{kind.__struct_config__.tag}`", ""]
    if own_text:
        lines += [own_text, ""]
    lines += ["| field | type | default |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        kind_name = _type_name(field.type).replace("|", "\\|")
        default = "required" if field.required else f"`{_default(field)!r}`"
        lines.append(f"| `{field.name}` | `{kind_name}` | {default} |")
    return lines


def _type_name(kind: object) -> str:
    name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    for prefix in ("typing.", "ostler.domain.", "model.", "agent.", "identity.", "tool."):
        name = name.replace(prefix, "")
    return name.replace("NoneType", "None")


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def error_page() -> str:
    tree = (inspect.getdoc(errors) or "").split("\n\n")[1]
    page = [
        "# Errors",
        "",
        MADE,
        ERRORS_ARE,
        "",
        "```text",
        inspect.cleandoc(tree),
        "```",
        "",
        "| code | class | retryable | what it means |",
        "|---|---|---|---|",
    ]
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.OstlerError):
            first = (inspect.getdoc(kind) or "").splitlines()[0]
            page.append(f"| `{kind.code}` | `{name}` | {'yes' if kind.retryable else 'no'} | {first} |")
    return "\n".join(page) + "\n"


def command_page() -> str:
    page = ["# The command line", "", MADE, "## Exit codes", "", "| code | meaning |", "|---|---|"]
    page += [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    context = click.Context(cli, info_name="ostler")
    page += ["", "## Commands", "", "```text", cli.get_help(context).rstrip(), "```"]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=context) as inner:
            page += ["", f"### ostler {name}", "", "```text", command.get_help(inner).rstrip(), "```"]
    return "\n".join(page) + "\n"


def python_page() -> str:
    page = ["# Python", "", MADE, "What `from ostler import …` offers. Everything else is private and may change."]
    for name in sorted(ostler.__all__, key=str.lower):
        value = getattr(ostler, name)
        page += ["", f"## `{name}`", "", "```python", _signature(name, value), "```", "", inspect.getdoc(value) or ""]
        if not isinstance(value, type) or issubclass(value, Exception):
            continue
        for method, function in vars(value).items():
            function = getattr(function, "__func__", function)
            if method.startswith("_") or not inspect.isfunction(function) or function.__module__ != value.__module__:
                continue
            prefix = "async " if inspect.iscoroutinefunction(function) else ""
            page += ["", f"### `{name}.{method}`", "", "```python", f"{prefix}{_signature(method, function)}", "```"]
            page += ["", inspect.getdoc(function)] if inspect.getdoc(function) else []
    return "\n".join(page) + "\n"


def _signature(name: str, value: object) -> str:
    """`name(...)` as it would be written, with short type names."""
    text = str(inspect.signature(value, eval_str=False)) if callable(value) else ""
    for prefix in re.findall(r"(?:[a-z_]+\.)+(?=[A-Z])", text):
        text = text.replace(prefix, "")
    return f"{name}{text}"


def main() -> int:
    pages = {"events.md": events(), "errors.md": error_page(), "cli.md": command_page(), "python.md": python_page()}
    if "--check" not in sys.argv:
        for name, text in pages.items():
            (DOCS / name).write_text(text)
        return 0
    stale = [name for name, text in pages.items() if (DOCS / name).read_text() != text]
    for name in stale:
        print(f"docs/reference/{name} is out of date: run `make reference`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
