"""Policies that come with Ostler, as files of rules that name what tools do and never a tool."""

from pathlib import Path

from ostler.domain.suggest import did_you_mean
from ostler.kernel.errors import NotFound

_ENDING = ".rules"
_FOLDER = Path(__file__).parent


def pack_names() -> list[str]:
    """The names of the policies that come with Ostler."""
    return sorted(file.stem for file in _FOLDER.glob(f"*{_ENDING}"))


def rules_of(place: str) -> tuple[str, str]:
    """The text of the rules in a file, or of a policy that comes with Ostler, and its name without an ending.

    What has an ending or a folder is a file. Raises `NotFound`.
    """
    path = Path(place)
    if path.name == place and not path.suffix:
        names = pack_names()
        if place in names:
            return (_FOLDER / f"{place}{_ENDING}").read_text("utf-8"), place
        near = did_you_mean(place, names)
        hint = (
            f"Did you mean {near}?"
            if near
            else f"There are: {', '.join(names)}. A file needs an ending: {place}.rules."
        )
        raise NotFound(f"No policy that comes with Ostler is called {place!r}.", hint=hint)
    try:
        return path.read_text("utf-8"), path.stem
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise NotFound(f"{path} cannot be read: it is not UTF-8 text.") from error
