"""A look at everything that Ostler stands on, with what to do about each thing that is not well."""

import importlib.util
import platform
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ostler.adapters.tools.functions import Tool
from ostler.app.bootstrap import Parts, connect
from ostler.app.checkup import findings
from ostler.app.embedders import embedder_of
from ostler.app.models import NO_MODEL_HINT, Models
from ostler.app.overview import Watch
from ostler.app.plugins import FITNESS, SANDBOXES, STORES, part
from ostler.app.project import agent_names, find_agent, load_code
from ostler.app.providers import BUILT_IN
from ostler.app.settings import PROJECT_FILE, Settings, shown
from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import OstlerError, SandboxUnavailable, StoreError
from ostler.ports import Finding

PYTHON_MIN = (3, 11)
SQLITE_MIN = (3, 37)

EXTRAS = {
    "cli": ("click", "rich", "yaml"),
    "http": ("httpx2",),
    "memory": ("numpy",),
    "graph": ("rustworkx",),
}


async def examine(
    settings: Settings, problem: OstlerError | None = None, *, deep: bool = False
) -> AsyncIterator[Finding]:
    """Look at one thing after the other, and change none. Never raises for what it finds; it says it.

    `problem` is why the project's own settings could not be read. `deep` reads the whole store where that says more.
    """
    yield _python()
    yield _sqlite()
    for extra in _extras():
        yield extra
    project, tools = _project(settings, problem)
    yield project
    async for finding in _store(settings, tools, deep=deep):
        yield finding
    yield await _sandbox(settings)
    for provider in _providers(settings):
        yield provider
    if settings.fitness is not None:
        yield _fitness(settings.fitness)
    if (embedder := await _embedder(settings)) is not None:
        yield embedder
    yield await _model(settings)


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < PYTHON_MIN:
        return Finding("python", "bad", found, f"Install Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer.")
    return Finding("python", "ok", found)


def _sqlite() -> Finding:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        return Finding("sqlite", "bad", sqlite3.sqlite_version, "Use a Python that is built with SQLite 3.37 or newer.")
    return Finding("sqlite", "ok", sqlite3.sqlite_version)


def _extras() -> list[Finding]:
    checks = []
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            todo = f"pip install 'ostler[{extra}]'"
            checks.append(Finding(f"extra {extra}", "warn", f"missing: {', '.join(missing)}", todo))
        else:
            checks.append(Finding(f"extra {extra}", "ok", ", ".join(modules)))
    return checks


Tools = Sequence[Tool[..., Any]]


def _project(settings: Settings, problem: OstlerError | None) -> tuple[Finding, Tools | None]:
    """The project, and its tools if they can be had."""
    if problem is not None:
        return Finding("project", "bad", problem.message, problem.hint), None
    if not settings.is_project:
        todo = f"Nothing is needed; a file {PROJECT_FILE} makes a folder a project, with a store and agents of its own."
        return Finding("project", "ok", f"none at {settings.folder} or above", todo), ()
    try:
        tools = load_code(settings.tools).tools
    except OstlerError as error:
        return Finding("project", "bad", error.message, error.hint), None
    number = "1 tool" if len(tools) == 1 else f"{len(tools)} tools"
    return Finding("project", "ok", f"{settings.folder} ({number} of its own)"), tools


def _agents(settings: Settings, parts: Parts, tools: Tools | None) -> Finding:
    if tools is None:
        return Finding("agents", "warn", "not looked at", "Repair the project first: agents are read with its tools.")
    try:
        parts.know(tools)
        names = agent_names(settings)
        for name in names:
            find_agent(name, settings, parts.tools.specs())
    except OstlerError as error:
        return Finding("agents", "bad", error.message, error.hint)
    return Finding("agents", "ok", ", ".join(names) or "none")


async def _store(settings: Settings, tools: "Tools | None", *, deep: bool) -> AsyncIterator[Finding]:
    """What is found in the store, which is neither made nor brought up to date. It must not be opened for less."""
    place, is_open = shown(settings.store), True
    if settings.store.startswith("sqlite:///"):
        path = Path(settings.store.removeprefix("sqlite:///"))
        if not path.exists():
            yield _no_store(settings, path)
            is_open = False
        else:
            found, is_open = await part(STORES["sqlite checkup"])(path, deep=deep)
            for finding in found:
                yield finding
    elif settings.store.partition(":")[0] in ("postgresql", "postgres"):
        try:
            found, is_open = await part(STORES["postgres checkup"], extra="postgres")(settings.store, deep=deep)
        except OstlerError as error:
            found, is_open = [Finding("store", "bad", f"{place}: {error.message}", error.hint)], False
        for finding in found:
            yield finding
    elif settings.store.startswith("memory:"):
        yield Finding("store", "warn", place, "It is gone when the process ends: name a file to keep sessions.")
    try:
        parts = await connect(settings if is_open else msgspec.structs.replace(settings, store="memory:"), create=False)
    except OstlerError as error:
        yield Finding("store", "bad", f"{place}: {error.message}", error.hint)
        return
    try:
        if is_open:
            for finding in findings(await Watch(settings, parts).look()):
                yield finding
        yield _agents(settings, parts, tools)
    except StoreError as error:
        yield Finding("store", "bad", f"{place}: {error.message}", error.hint)
    finally:
        await parts.close()


def _no_store(settings: Settings, path: Path) -> Finding:
    found = f"there is none at {path.absolute()} yet"
    if settings.is_store_named:
        return Finding("store", "warn", found, "Check --store and OSTLER_STORE. `ostler run` makes one.")
    return Finding("store", "ok", found, "Nothing is needed: the first session that is started makes one.")


async def _sandbox(settings: Settings) -> Finding:
    """What the sandbox of the settings holds against, attacked a moment ago; that of most, if they name none."""
    name = "bwrap" if settings.sandbox == "none" else settings.sandbox
    sandbox = part(SANDBOXES[name])()
    try:
        holding = await sandbox.probe()
    except SandboxUnavailable as error:
        return Finding("sandbox", "warn" if settings.sandbox == "none" else "bad", error.message, error.hint)
    limits = ", ".join(f"{name}: {how}" for name, how in sandbox.limits_held().items())
    found = f"{name} holds against: {', '.join(holding.holds)}; limits: {limits}"
    if settings.sandbox == "none":
        return Finding("sandbox", "warn", f"{found}; but {PROJECT_FILE} switches it off", "Remove sandbox = 'none'.")
    if name == "landlock":
        return Finding("sandbox", "warn", f"{found}; weaker than bwrap", "Remove sandbox = 'landlock' where you can.")
    return Finding("sandbox", "ok", found)


def _fitness(path: Path) -> Finding:
    """The file of fitness targets; none of them is measured."""
    try:
        targets = part(FITNESS["read"])(path)
    except OstlerError as error:
        return Finding("fitness", "bad", error.message, error.hint)
    return Finding("fitness", "ok", f"{path.name}: {', '.join(target.name for target in targets) or 'no targets'}")


async def _embedder(settings: Settings) -> Finding | None:
    """What turns memories into vectors, tried with one word; None if the project has none."""
    try:
        embedder = embedder_of(settings)
        if embedder is None:
            return None
        try:
            (vector,) = await embedder.embed(["ostler"], purpose="query")
        finally:
            await embedder.close()
    except OstlerError as error:
        found = f"{settings.memory.embedder}: {error.message.rstrip('.')}. Memories are found by their words only."
        return Finding("embedder", "warn", found, error.hint)
    return Finding("embedder", "ok", f"{embedder.fingerprint}, {len(vector)} numbers, {embedder.kind}")


def _providers(settings: Settings) -> list[Finding]:
    """The servers of models of the project's own; none of them is asked."""
    findings = []
    for name, target in settings.providers.items():
        found, variable = f"{target.table.base_url} ({target.table.dialect})", target.table.key_env
        if variable is not None and target.key is None:
            findings.append(Finding(f"provider {name}", "warn", f"{found}; its key is missing", f"Set {variable}."))
        else:
            findings.append(Finding(f"provider {name}", "ok", found if variable else f"{found}; no key is sent"))
    known = [*settings.providers, *BUILT_IN]
    for name in settings.breakers.providers:
        if name not in (*known, "*"):
            near = did_you_mean(name, known)
            todo = f"Did you mean {near!r}?" if near else f"Providers are: {', '.join(known)}."
            findings.append(Finding(f"provider {name}", "warn", f"[breakers.providers.{name}] is for nobody", todo))
    return findings


async def _model(settings: Settings) -> Finding:
    models = Models(settings)
    try:
        choice = await models.choose(None, "coder")
        models.provider(choice.model)
    except OstlerError as error:
        return Finding("model", "warn", error.message, error.hint)
    finally:
        await models.close()
    todo = ""
    if choice.model.kind == "strategy":
        todo = f"For a live model: {NO_MODEL_HINT}"
    untried = "; not tried" if choice.model.kind == "live" else ""
    return Finding("model", "ok", f"{choice.model}: {choice.because}{untried}", todo)
