"""What can be said of a SQLite file as a store, without changing it."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ostler.adapters.store.database import APPLICATION_ID, MIGRATIONS, Database
from ostler.kernel.errors import OstlerError
from ostler.ports import Finding

SPACE_MIN_BYTES = 256 * 1024 * 1024
WAL_MAX_BYTES = 256 * 1024 * 1024
SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
DAMAGES_SHOWN = 3


async def checkup(path: Path, *, deep: bool) -> tuple[list[Finding], bool]:
    """What is found, and whether the store is to be opened: that would bring an older one up to date.

    `deep` reads the whole file, which takes as long as copying it.
    """
    version = _version(path)
    if version is not None and version < len(MIGRATIONS):
        return [_older(path, version)], False
    try:
        with closing(Database(path, create=False)) as database:
            found = [_file(path, database), _log(path)]
            if deep:
                found.append(_integrity(database))
    except OstlerError as error:
        return [Finding("store", "bad", f"{path}: {error.message}", error.hint)], False
    return found, True


def _version(path: Path) -> int | None:
    """The schema of a store, without opening it as one; None if it is none."""
    try:
        way = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(way, uri=True, isolation_level=None, timeout=1)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None
    return version if application == APPLICATION_ID else None


def _older(path: Path, version: int) -> Finding:
    return Finding(
        "store",
        "warn",
        f"{path.absolute()}: schema {version}, and this Ostler needs {len(MIGRATIONS)}",
        "Copy the file, then run any other command: the first to open it brings it up to date.",
        "Older Ostlers cannot open it any more from then on. Nothing else of the store was looked at.",
    )


def _file(path: Path, database: Database) -> Finding:
    def pragma(name: str) -> Any:
        ((value,),) = database.fetch(f"PRAGMA {name}")
        return value

    size = pragma("page_count") * pragma("page_size")
    free = shutil.disk_usage(path.absolute().parent).free
    found = (
        f"{path.absolute()}: {size / 1e6:.1f} MB, schema {pragma('user_version')}, journal {pragma('journal_mode')}, "
        f"synchronous {SYNCHRONOUS[pragma('synchronous')]}"
    )
    if free < SPACE_MIN_BYTES:
        why = "Nothing can be written to a full disk; sessions stop until there is space again, and none is lost."
        return Finding("store", "warn", f"{found}, {free / 1e6:.0f} MB free", "Make space on this disk.", why)
    return Finding("store", "ok", found)


def _log(path: Path) -> Finding:
    wal = path.with_name(path.name + "-wal")
    size = wal.stat().st_size if wal.exists() else 0
    found = f"{size / 1e6:.1f} MB"
    if size > WAL_MAX_BYTES:
        todo = f"Find out what reads {path} for so long: a backup, a forgotten shell? When it ends, the log shrinks."
        why = "As long as somebody reads an old state, the log can only grow, and every read becomes slower."
        return Finding("write-ahead log", "warn", found, todo, why)
    return Finding("write-ahead log", "ok", found)


def _integrity(database: Database) -> Finding:
    said = [row[0] for row in database.fetch(f"PRAGMA quick_check({DAMAGES_SHOWN})")]
    if said == ["ok"]:
        return Finding("integrity", "ok", "every page of the file is in order")
    todo = "Stop the workers, copy the file, and restore it from a backup; `ostler verify` tells which sessions suffer."
    return Finding("integrity", "bad", "; ".join(said), todo, "What is read from damaged pages is wrong or missing.")
