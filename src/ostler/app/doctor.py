"""A look at everything that Ostler stands on, with what to do about each thing that is not well."""

import importlib.util
import platform
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import msgspec

from ostler.adapters.tools.functions import Tool
from ostler.app.bootstrap import Parts, connect
from ostler.app.models import Models
from ostler.app.plugins import SANDBOXES, part
from ostler.app.project import agent_names, find_agent, load_tools
from ostler.app.settings import PROJECT_FILE, Settings
from ostler.domain.identity import DEFAULT_TENANT
from ostler.kernel.errors import OstlerError, SandboxUnavailable

PYTHON_MIN = (3, 11)
SQLITE_MIN = (3, 37)
SPACE_MIN_BYTES = 256 * 1024 * 1024
BOOTS_SHOWN = 5

EXTRAS = {"cli": ("click", "rich", "yaml"), "http": ("httpx2",)}

Verdict = Literal["ok", "warn", "bad"]
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


class Check(msgspec.Struct, frozen=True):
    """One thing looked at: `warn` can be lived with, `bad` is needed and broken. `todo` says what to do."""

    name: str
    verdict: Verdict
    found: str
    todo: str = ""


async def examine(settings: Settings, problem: OstlerError | None = None) -> AsyncIterator[Check]:
    """Look at one thing after the other. Never raises for what it finds; it says it.

    `problem` is why the project's own settings could not be read.
    """
    yield _python()
    yield _sqlite()
    for extra in _extras():
        yield extra
    project, tools = _project(settings, problem)
    yield project
    try:
        parts = await connect(settings)
    except OstlerError as error:
        yield Check("store", "bad", f"{settings.store}: {error.message}", error.hint)
    else:
        try:
            for check in [_store(settings), *await _workers(parts), _agents(settings, parts, tools)]:
                yield check
        finally:
            await parts.close()
    yield await _sandbox(settings)
    yield await _model(settings)


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < PYTHON_MIN:
        return Check("python", "bad", found, f"Install Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer.")
    return Check("python", "ok", found)


def _sqlite() -> Check:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        return Check("sqlite", "bad", sqlite3.sqlite_version, "Use a Python that is built with SQLite 3.37 or newer.")
    return Check("sqlite", "ok", sqlite3.sqlite_version)


def _extras() -> list[Check]:
    checks = []
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            todo = f"pip install 'ostler[{extra}]'"
            checks.append(Check(f"extra {extra}", "warn", f"missing: {', '.join(missing)}", todo))
        else:
            checks.append(Check(f"extra {extra}", "ok", ", ".join(modules)))
    return checks


Tools = Sequence[Tool[..., Any]]


def _project(settings: Settings, problem: OstlerError | None) -> tuple[Check, Tools | None]:
    """The project, and its tools if they can be had."""
    if problem is not None:
        return Check("project", "bad", problem.message, problem.hint), None
    if not settings.is_project:
        todo = f"Nothing is needed; a file {PROJECT_FILE} makes a folder a project, with a store and agents of its own."
        return Check("project", "ok", f"none at {settings.folder} or above", todo), ()
    try:
        tools = load_tools(settings.tools)
    except OstlerError as error:
        return Check("project", "bad", error.message, error.hint), None
    return Check("project", "ok", f"{settings.folder} ({len(tools)} tools of its own)"), tools


def _agents(settings: Settings, parts: Parts, tools: Tools | None) -> Check:
    if tools is None:
        return Check("agents", "warn", "not looked at", "Repair the project first: agents are read with its tools.")
    try:
        parts.know(tools)
        names = agent_names(settings)
        for name in names:
            find_agent(name, settings, parts.tools.specs())
    except OstlerError as error:
        return Check("agents", "bad", error.message, error.hint)
    return Check("agents", "ok", ", ".join(names) or "none")


def _store(settings: Settings) -> Check:
    path = Path(settings.store.removeprefix("sqlite:///"))
    if not settings.store.startswith("sqlite:"):
        return Check("store", "warn", settings.store, "It is gone when the process ends: name a file to keep sessions.")
    with closing(part("ostler.adapters.store.database:Database")(path)) as database:

        def pragma(name: str) -> Any:
            ((value,),) = database.fetch(f"PRAGMA {name}")
            return value

        mode, version = pragma("journal_mode"), pragma("user_version")
        synchronous = _SYNCHRONOUS[pragma("synchronous")]
        size = pragma("page_count") * pragma("page_size")
    found = f"{path.absolute()}: {size / 1e6:.1f} MB, schema {version}, journal {mode}, synchronous {synchronous}"
    free = shutil.disk_usage(path.absolute().parent).free
    if free < SPACE_MIN_BYTES:
        return Check("store", "warn", f"{found}, {free / 1e6:.0f} MB free", "Make space on this disk.")
    return Check("store", "ok", found)


async def _workers(parts: Parts) -> list[Check]:
    now = parts.clock.now_us()
    known = await parts.store.workers()
    alive = [name for name, until_us in known if until_us > now]
    silent = [name for name, until_us in known if until_us <= now]
    names = ", ".join(_place(name) for name in alive) or "none: `ostler run` and `ostler resume` bring their own"
    checks = [Check("workers alive", "ok", names)]
    if silent:
        todo = "Nothing is lost: `ostler worker` buries them and goes on with their sessions."
        checks.append(Check("workers silent", "warn", ", ".join(_place(name) for name in silent), todo))
    boots = await parts.store.streams(DEFAULT_TENANT, prefix="wrk_", limit=BOOTS_SHOWN)
    living = {name.partition("/")[0] for name in alive}
    ends = {
        info.stream.name: "lost" if info.standing.status == "running" else info.standing.status
        for info in boots
        if info.stream.name not in living
    }
    lost = [name for name, end in ends.items() if end == "lost"]
    found = ", ".join(f"{name} {end}" for name, end in ends.items()) or "none yet"
    todo = "These ended without a word (killed, or power lost); their sessions went on from the log." if lost else ""
    return [*checks, Check("last boots", "warn" if lost else "ok", found, todo)]


def _place(worker: str) -> str:
    """`wrk_… (pid 12 on host)` for the name of a worker."""
    identity, *rest = worker.split("/")
    return f"{identity} (pid {rest[1]} on {rest[0].partition(':')[0]})" if len(rest) >= 2 else identity


async def _sandbox(settings: Settings) -> Check:
    sandbox = part(SANDBOXES["bwrap"])()
    try:
        held = await sandbox.probe()
    except SandboxUnavailable as error:
        verdict: Verdict = "warn" if settings.sandbox == "none" else "bad"
        return Check("sandbox", verdict, error.message, error.hint)
    limits = ", ".join(f"{name}: {how}" for name, how in sandbox.limits_held().items())
    found = f"bubblewrap holds against: {', '.join(held)}; limits: {limits}"
    if settings.sandbox == "none":
        return Check("sandbox", "warn", f"{found}; but {PROJECT_FILE} switches it off", "Remove sandbox = 'none'.")
    return Check("sandbox", "ok", found)


async def _model(settings: Settings) -> Check:
    models = Models(settings)
    try:
        choice = await models.choose(None, "coder")
        models.provider(choice.model)
    except OstlerError as error:
        return Check("model", "warn", error.message, error.hint)
    finally:
        await models.close()
    todo = ""
    if choice.model.kind == "strategy":
        todo = "For a live model set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENAI_BASE_URL, or start Ollama."
    untried = "" if choice.model.kind == "strategy" else "; not tried"
    return Check("model", "ok", f"{choice.model}: {choice.because}{untried}", todo)
