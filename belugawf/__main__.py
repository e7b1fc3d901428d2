"""The process: `belugawf` and `python -m belugawf`.

The one place where exceptions become exit codes.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import typer

from belugawf.cli import exits
from belugawf.cli.app import app
from belugawf.cli.exits import CommandError, describe_error, error_line
from belugawf.cli.render import Paint, escape, escape_lines
from belugawf.cli.session import ENDING_SIGNALS, Interrupted
from belugawf.cli.streams import STREAMS


def main() -> NoReturn:
    """Run the command of this process and end it."""
    # Whoever drives makes many objects that stay, and few cycles: looking for those at Python's
    # pace takes a tenth of a worker's time. Only here: a process of users' own is theirs to set.
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    STREAMS.open_for_good()
    code = run(sys.argv[1:])
    for stream in (STREAMS.data, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    if STREAMS.diverts:
        from belugawf.host.leaving import leave

        # What users' code does at exit may take seconds, and everything has been printed.
        for number in ENDING_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: os._exit(code))
        leave(code)
    # No code of the user's has run: nothing of its is left to do.
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error has been printed when it returns."""
    before = list(arguments)
    with suppress(ValueError):
        before = before[: before.index("--")]
    as_json = "--json" in before
    verbose = "-v" in before or "--verbose" in before
    try:
        command: Any = typer.main.get_command(app)
        code = command.main(list(arguments), prog_name="belugawf", standalone_mode=False)
        return code if isinstance(code, int) else exits.OK
    except SystemExit as error:
        # Two things leave typer so: shell completion, and a closed pipe. Whoever read our output
        # has seen enough then.
        if isinstance(error.__context__, BrokenPipeError):
            _discard_output()
            return exits.OK
        return error.code if isinstance(error.code, int) else exits.BUG
    except (KeyboardInterrupt, typer.Abort):
        return exits.INTERRUPTED
    except Interrupted as error:
        return error.exit_code
    except Exception as error:
        return _report(error, as_json=as_json, verbose=verbose)


def _report(error: Exception, *, as_json: bool, verbose: bool) -> int:
    known = describe_error(error)
    shown = _bug(error, verbose=verbose) if known is None else known
    if as_json:
        STREAMS.say_json(error_line(shown, STREAMS.mask))
    elif not shown.printed:
        _print_error(shown)
    return shown.exit_code


def _print_error(error: CommandError) -> None:
    paint = Paint(STREAMS.color, STREAMS.talk_is_terminal())
    # A configuration names all that is wrong with it, one line each.
    STREAMS.say(f"{paint('error:', 'red')} {escape_lines(error.message)}")
    for candidate in error.extra.get("candidates", ()):
        if candidate not in error.message:
            STREAMS.say(f"  {escape(candidate)}")
    if error.hint:
        STREAMS.say(f"{paint('hint:', 'cyan')} {escape(error.hint)}")


def _bug(error: Exception, *, verbose: bool) -> CommandError:
    if verbose:
        import traceback

        STREAMS.say(escape_lines("".join(traceback.format_exception(error))))
    hint = "please report it, with what -v shows" if not verbose else "please report it"
    return CommandError(
        exits.BUG, "internal", f"this is a bug of ours: {type(error).__name__}: {error}", hint=hint
    )


def _discard_output() -> None:
    """Let what is still in buffers go nowhere, so that the last flush cannot complain."""
    with suppress(OSError, ValueError, AttributeError):
        stream = STREAMS.data
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)


if __name__ == "__main__":
    main()
