"""Running Python as a user that is not root, wherever this Python is: root may keep it where others cannot look."""

import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path

UID = 65534

_SCRIPT = """
set -e
{open}
exec setpriv --reuid={uid} --regid={uid} --clear-groups -- "$@"
"""
_OPEN = """
mount --rbind {inner} /mnt
mount -t tmpfs -o mode=755 none {closed}
mkdir -p {inner}
mount --move /mnt {inner}
"""


def as_nobody(*arguments: str) -> list[str]:
    """The command, for root, that runs this Python with these arguments as somebody else."""
    prefixes = {sys.base_prefix, sys.prefix, os.path.realpath(sys.executable), str(Path(__file__).parents[3])}
    ways = {way for prefix in prefixes if (way := _closed(Path(prefix))) is not None}
    opened = "".join(map(_opened, sorted(ways)))
    script = _SCRIPT.format(open=opened, uid=UID)
    return ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *arguments]


def _closed(path: Path) -> tuple[Path, Path] | None:
    """The first folder on the way that is closed to others, and what is next on the way."""
    way = [*reversed(path.parents), path]
    for folder, inner in pairwise(way):
        if not folder.stat().st_mode & 0o001:
            return folder, inner
    return None


def _opened(way: tuple[Path, Path]) -> str:
    closed, inner = (shlex.quote(str(path)) for path in way)
    return _OPEN.format(closed=closed, inner=inner)
