"""What the user sees of an error: what, why, what to do. A traceback is for those who ask for one."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from ostler.cli.exits import Exit, of_error
from ostler.kernel.errors import OstlerError

JSON_ERRORS = "ostler.json_errors"
"""Set in the context's `meta` by commands whose output is for machines."""


@contextmanager
def reported(ctx: click.Context) -> Iterator[None]:
    """Turn every error inside into a message on standard error and an exit code. `OSTLER_DEBUG=1` lets it through."""
    try:
        yield
    except click.exceptions.Exit:
        raise
    except click.ClickException as error:
        if not ctx.meta.get(JSON_ERRORS):
            raise
        _tell_json({"code": "usage", "message": error.format_message(), "hint": "", "retryable": False, "facts": {}})
        ctx.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        ctx.exit(Exit.INTERRUPTED)
    except OstlerError as error:
        if _debugging():
            raise
        tell(error, as_json=bool(ctx.meta.get(JSON_ERRORS)))
        ctx.exit(of_error(error))
    except BrokenPipeError as error:
        _mute(sys.stdout)
        _mute(sys.stderr)
        ctx.exit(of_error(error))
    except OSError as error:
        if _debugging():
            raise
        hint = "The operating system says so; OSTLER_DEBUG=1 shows where."
        tell(OstlerError(_of_the_system(error), hint=hint), as_json=bool(ctx.meta.get(JSON_ERRORS)))
        _mute(sys.stdout)
        ctx.exit(of_error(error))
    except Exception as error:
        if _debugging():
            raise
        hint = "This is a defect of Ostler, not of yours: OSTLER_DEBUG=1 shows where it is. Please report it."
        tell(OstlerError(f"{type(error).__name__}: {error}", hint=hint), as_json=bool(ctx.meta.get(JSON_ERRORS)))
        ctx.exit(Exit.FAILED)


def tell(error: OstlerError, *, as_json: bool = False, passes: bool = False) -> None:
    """Say on standard error what happened and what to do. What `passes` by itself is no error of the command."""
    if as_json:
        _tell_json(error.as_dict())
        return
    click.secho("Warning: " if passes else "Error: ", fg="yellow" if passes else "red", nl=False, err=True)
    is_open = error.message[-1:].isalnum() and "\n" not in error.message
    click.echo(error.message + ("." if is_open else ""), err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def _tell_json(error: dict[str, Any]) -> None:
    import json

    json.dump({"error": error}, sys.stderr, default=str, ensure_ascii=False)
    sys.stderr.write("\n")


def _of_the_system(error: OSError) -> str:
    """What the operating system refused, and of which file."""
    said = error.strerror or str(error) or type(error).__name__
    return said if error.filename is None else f"{error.filename}: {said}"


def _mute(stream: TextIO) -> None:
    """Let what is still to be written there go nowhere, so that Python does not stumble over it on its way out."""
    with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _debugging() -> bool:
    return os.environ.get("OSTLER_DEBUG", "") not in ("", "0")
