"""From errors to sentences and exit codes: the edge of the command line. Used by `cli`."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from classifier.errors import OutputError, ProbewatchError

INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def run_app(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors become one sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started us
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = app(args=list(arguments), prog_name="probewatch", standalone_mode=False)
    except ProbewatchError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:  # interrupted, or out of input, where a question was asked
        code = INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return 0  # the reader has seen enough, as with `| head`
    except OSError as error:
        if error.errno not in _NO_ROOM:
            return _unexpected(error)
        _drop_output()
        return _fail(_full(error), OutputError.exit_code)
    except Exception as error:  # noqa: BLE001 (the edge: nothing below catches what it does not expect)
        return _unexpected(error)
    if code == INTERRUPTED:
        return _fail("Interrupted: repeat the command to go on or to start over.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """What is left in the buffer goes nowhere, or the interpreter fails once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _full(error: OSError) -> str:
    return f"The output could not be written ({error.strerror}): make room, or write elsewhere, and repeat the command."


def _fail(sentence: str, code: int) -> int:
    typer.echo(f"probewatch: {_ended(sentence)}", err=True)
    return code


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _usage(error: typer.TyperException) -> int:
    """A command line that typer refuses; without any argument, typer's error is the help."""
    sentence = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(sentence)
    else:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "probewatch"
        said = " ".join(sentence.split())  # choices are listed one a line
        _fail(f"{_ended(said)} See {command} --help.", error.exit_code)
    return error.exit_code


def _unexpected(error: Exception) -> int:
    if os.environ.get("PROBEWATCH_DEBUG") == "1":
        traceback.print_exception(error)
        return 1
    kind = type(error).__name__
    return _fail(f"Unexpected {kind}, which is our fault: set PROBEWATCH_DEBUG=1 to see where, and report it.", 1)
