"""A folder in which no name leads anywhere else, whatever else happens to it at the same time."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from ostler.adapters.tools.functions import Failure

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # non-blocking: a FIFO must not hold us up


class Workspace:
    """The files under `root`, by paths relative to it.

    A path is walked one component at a time from an open descriptor of the root, following no symbolic link, so there
    is no moment between check and use. Only the one plain spelling of a path is accepted (`src/a.py`, not
    `./src/../src/a.py`, nor a link to it): what a policy judged by its name is what is touched.
    Every refusal is raised as a `Failure` that says what to write instead.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @contextmanager
    def folder(self, path: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder `path`, made with its parents if `create`."""
        parts = components(path)
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Failure("permanent", f"the workspace itself cannot be opened: {error.strerror}") from error
        try:
            for part in parts:
                with _translated(path):
                    inner = _enter(descriptor, part, create)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def place(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that holds the file `path`, and the file's name in it."""
        parts = components(path)
        if not parts:
            raise Failure("invalid", "'.' is the workspace itself; name a file in it")
        with self.folder("/".join(parts[:-1]) or ".", create=create) as folder:
            yield folder, parts[-1]

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """The regular file `path`, to read."""
        with self.place(path) as (folder, name), open_file(folder, name, path) as file:
            yield file

    def replace(self, path: str, content: bytes, *, scratch: str, mark: tuple[str, bytes] | None = None) -> None:
        """Make `content` the whole content of the file `path`: at once or not at all, and durably.

        The temporary file beside it has a name that begins with `scratch`. The mode and owner of a file that is
        replaced are kept. `mark` is an extended attribute that appears together with the content, where the file
        system has them.
        """
        with self.place(path, create=True) as (folder, name), _translated(path):
            before = _status(folder, name, path)
            scratch = f"{scratch}.{secrets.token_hex(8)}"
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
            try:
                with open(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    _dress(descriptor, before, mark)
                    os.fsync(descriptor)
                os.rename(scratch, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(scratch, dir_fd=folder)
                raise
            os.fsync(folder)

    def sweep(self, path: str, *, scratch: str) -> None:
        """Remove what a `replace` of the file `path` with this `scratch` left behind when its process was killed."""
        with suppress(Failure), self.place(path) as (folder, _), _translated(path):
            for name in os.listdir(folder):
                if name.startswith(f"{scratch}."):
                    os.unlink(name, dir_fd=folder)


def components(path: str) -> list[str]:
    """The parts of a path in its one plain spelling; none for '.', the root itself."""
    if path == ".":
        return []
    parts = path.split("/")
    if path.startswith("/"):
        raise Failure("blocked", f"{path!r} is absolute; paths are relative to the workspace, whose root is '.'")
    if ".." in parts:
        raise Failure("blocked", f"{path!r} contains '..'; nothing outside the workspace can be reached")
    plain = [part for part in parts if part not in ("", ".")]
    if plain != parts or "\0" in path:
        raise Failure("invalid", f"{path!r} is not a plain path; write {'/'.join(plain).replace(chr(0), '') or '.'!r}")
    return parts


def open_file(folder: int, name: str, path: str) -> BinaryIO:
    """The regular file `name` in an open folder; `path` is what it is called in a refusal."""
    with _translated(path):
        descriptor = os.open(name, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failure("invalid", f"{path!r} is not a file")
    return open(descriptor, "rb")


def open_folder(folder: int, name: str) -> int:
    """A descriptor of the folder `name` in an open folder. Raises `OSError` if it is something else."""
    return os.open(name, _FOLDER, dir_fd=folder)


def _enter(folder: int, name: str, create: bool) -> int:
    try:
        return open_folder(folder, name)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return open_folder(folder, name)


def _status(folder: int, name: str, path: str) -> os.stat_result | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(status.st_mode):
        raise _link(path)
    if not stat.S_ISREG(status.st_mode):
        raise Failure("invalid", f"{path!r} is not a file")
    return status


def _dress(descriptor: int, before: os.stat_result | None, mark: tuple[str, bytes] | None) -> None:
    if before is not None:
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        with suppress(PermissionError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    if mark is not None:
        with suppress(OSError):
            os.setxattr(descriptor, *mark)


def _link(path: str) -> Failure:
    return Failure("blocked", f"{path!r} is, or leads through, a symbolic link; name the file itself")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Errors of the operating system as failures in the workspace's own words."""
    try:
        yield
    except FileNotFoundError:
        raise Failure("not_found", f"there is no {path!r} in the workspace") from None
    except PermissionError:
        raise Failure("permanent", f"the operating system does not permit this with {path!r}") from None
    except NotADirectoryError:  # what O_DIRECTORY | O_NOFOLLOW says of a link, too
        raise Failure("blocked", f"{path!r} leads through a symbolic link, or something that is no folder") from None
    except OSError as error:
        if error.errno == 40:  # ELOOP: what O_NOFOLLOW says of a link
            raise _link(path) from None
        raise Failure("permanent", f"{path!r}: {error.strerror}") from error
