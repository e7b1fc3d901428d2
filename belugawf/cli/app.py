"""The command tree: global flags, and commands that are imported when they are used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import belugawf
from belugawf.cli import examples, layout
from belugawf.cli.options import Text, option
from belugawf.model.errors import UsageError
from belugawf.model.values import frozen

# Each command's line in `belugawf --help`: its file in `commands` is imported only when it is
# called. A test compares the lines with the commands' own help.
COMMANDS = {
    "run": "Start a run and drive it until it ends or waits.",
    "rerun": "Start the workflow of a run anew, with the same input.",
    "resume": "Drive what can move on: recovered, signalled, due.",
    "signal": "Deliver a signal to a run, then move the run on.",
    "status": "Show where things are, and what moves them on.",
    "waiting": "List every open wait for a signal.",
    "query": "Ask a run; changes nothing.",
    "list": "List runs, newest first.",
    "history": "Show the events of a run.",
    "logs": "Show what the code of a run has logged.",
    "result": "Print the result of a run, and nothing else.",
    "wait": "Wait until a run ends, waits, or awaits a signal.",
    "cancel": "Ask runs to stop and clean up.",
    "retry": "Take up runs again that failed, were cancelled, or are parked.",
    "terminate": "End runs at once, without running their code.",
    "prune": "Delete runs that ended long ago, with their histories.",
    "worker": "Stay and drive everything until interrupted.",
    "workflows": "List the workflows, and the modules that fail to import.",
    "init": "Write a configuration and an example workflow.",
    "doctor": "Check configuration, modules, database and environment.",
}

_HELP_COLUMNS = 80
# How `belugawf --help` orders them.
GROUPS = {
    "Start and drive": ("run", "rerun", "resume", "worker"),
    "Answer and steer": ("waiting", "signal", "retry", "cancel", "terminate"),
    "Look": ("status", "list", "history", "logs", "result", "wait", "query"),
    "Set up and keep": ("init", "workflows", "doctor", "prune"),
}


@frozen(kw_only=True)
class Globals:
    """The flags before the command; `None` if one was not given."""

    config: Path | None = None
    directory: Path | None = None
    db: Path | None = None
    workflows: Path | None = None
    provider: str | None = None
    color: str = "auto"

    @classmethod
    def of(cls, ctx: Any) -> Globals:
        """Those of a command line that was read."""
        given = dict(ctx.find_root().params)
        given.pop("version", None)
        for name in ("config", "directory", "db", "workflows"):
            given[name] = None if given.get(name) is None else Path(given[name])
        return cls(**given)

    def flags(self) -> list[str]:
        """The flags as they must be typed again to reach the same runs."""
        given: list[str] = []
        for flag, value in (
            ("-c", self.config),
            ("-C", self.directory),
            ("--db", self.db),
            ("--workflows", self.workflows),
            ("--provider", self.provider),
        ):
            if value is not None:
                given += [flag, str(value)]
        return given


class _Verbatim:
    """Takes parameters as they were typed: texts, lists of texts, flags.

    typer's own conversion is the same for these types, but imports pydantic for it (40 ms).
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None and (param.multiple or param.nargs == -1):
            return ()
        return value


_VERBATIM = _Verbatim()


def _verbatim(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if hasattr(parameter, "get_runtime_param"):
            parameter.get_runtime_param = lambda: _VERBATIM
    return parameters


def _narrowed(ctx: Any) -> Any:
    """The context, for help that fits a narrow terminal: click's own needs 52 columns."""
    ctx.terminal_width = min(_HELP_COLUMNS, layout.columns(sys.stdout)) - 2
    return ctx


class Command(TyperCommand):
    """A command whose parameters are all texts, lists of texts, or flags."""

    def get_help(self, ctx: Any) -> str:
        return super().get_help(_narrowed(ctx))

    def get_params(self, ctx: Any) -> list[Any]:
        return _verbatim(super().get_params(ctx))


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a `Session` made of the flags that all commands have, and their parameters
    in the place of its own `session`. So it is with other classes that are made of flags."""
    from belugawf.cli.session import Session

    _, *own = signature(command, eval_str=True).parameters.values()
    context, *flags = signature(Session, eval_str=True).parameters.values()
    made = {one.name: one.annotation for one in own if isinstance(one.annotation, type)}
    theirs = {name: signature(kind, eval_str=True).parameters for name, kind in made.items()}

    def run(ctx: typer.Context, **given: Any) -> None:
        session = Session(ctx, **{flag.name: given.pop(flag.name) for flag in flags})
        for name, kind in made.items():
            given[name] = kind(**{flag: given.pop(flag) for flag in theirs[name]})
        command(session, **given)

    # What typer reads of a function.
    run.__doc__ = command.__doc__
    run.__annotations__ = {}
    shown = [flag for one in own for flag in theirs.get(one.name, {one.name: one}).values()]
    given = [flag.replace(kind=Parameter.KEYWORD_ONLY) for flag in (*shown, *flags)]
    run.__signature__ = Signature([context, *given])  # type: ignore[attr-defined]
    return run


class LazyGroup(TyperGroup):
    """Lists the commands of COMMANDS without importing them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Stand-ins, for the suggestions after a mistyped command.
        self.commands = {
            name: TyperCommand(name=name, help=line) for name, line in COMMANDS.items()
        }

    def get_help(self, ctx: Any) -> str:
        return super().get_help(_narrowed(ctx))

    def get_params(self, ctx: Any) -> list[Any]:
        return _verbatim(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"belugawf.cli.commands.{cmd_name}")
        # A Typer that has one command, and no callback, is that command.
        only = typer.Typer(rich_markup_mode=None, add_completion=False)
        only.command(cmd_name, cls=Command, epilog=examples.epilog(cmd_name))(
            _with_flags(module.command)
        )
        return typer.main.get_command(only)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if word not in COMMANDS and not word.startswith("-"):
            raise _unknown_command(word)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name]) for name in names])


def _unknown_command(word: str) -> UsageError:
    """The error that says what a word may have meant that is no command."""
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1)
    if word in examples.MEANT:
        hint = f"you may want: {examples.MEANT[word]}"
    else:
        hint = f"did you mean {near[0]!r}?" if near else "belugawf --help lists the commands"
    return UsageError(f"there is no command {word!r:.60}", hint=hint)


app = typer.Typer(
    name="belugawf",
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples.FIRST_STEPS,
)


def _show_version(requested: bool) -> None:
    if requested:
        from belugawf.cli.streams import STREAMS

        STREAMS.write(f"belugawf {belugawf.__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def global_flags(
    ctx: typer.Context,
    config: Annotated[
        Text, option("-c", "--config", "FILE", "Use this configuration file.")
    ] = None,
    directory: Annotated[
        Text, option("-C", "--directory", "DIR", "Work as if started in DIR.")
    ] = None,
    db: Annotated[Text, option("--db", "FILE", "The database file.")] = None,
    workflows: Annotated[Text, option("--workflows", "DIR", "The workflow modules.")] = None,
    provider: Annotated[
        Text, option("--provider", "NAME", "What executes runs: default or temporal.")
    ] = None,
    color: Annotated[str, option("--color", "WHEN", "Colour: auto, always or never.")] = "auto",
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Durable workflows for Python in one SQLite file."""
    if color not in ("auto", "always", "never"):
        raise typer.BadParameter(f"--color is {color!r}: expected auto, always or never")
    from belugawf.cli.streams import STREAMS

    STREAMS.color = color
    if ctx.invoked_subcommand is None:
        STREAMS.write(ctx.get_help() + "\n")
