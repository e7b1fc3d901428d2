"""workflows and init: the modules that a project is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from belugawf.cli import exits, options, render
from belugawf.cli.app import Command, command_group
from belugawf.cli.exits import CommandError
from belugawf.cli.render import escape
from belugawf.cli.session import Session, leave
from belugawf.cli.streams import STREAMS
from belugawf.model.durations import format_duration
from belugawf.model.errors import UnavailableError, WorkflowLoadError
from belugawf.model.shell import command_line

if TYPE_CHECKING:
    from belugawf.authoring.loader import Catalog, ModuleProblem
    from belugawf.authoring.workflow import WorkflowDefinition

app = command_group()


# -- workflows -----------------------------------------------------------------------------------


@app.command("workflows", cls=Command)
def workflows_command(
    ctx: typer.Context,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List the workflows, and the modules that fail to import.

    With their parameters, first paragraphs, and where they are defined.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)

    with STREAMS.diverted():
        # Not entered: looking at modules needs no database.
        catalog = session.executor().catalog
        nothing = bool(catalog.problems) and not catalog.workflows
        if json and not nothing:
            session.print_json(_catalog_json(catalog))
        elif not json:
            _print_catalog(session, catalog)
        if nothing:
            raise CommandError(
                exits.NOT_LOADED,
                WorkflowLoadError.code,
                f"no workflow could be loaded: {catalog.problems[0]}",
                hint="mend that module, then try again: belugawf workflows",
                extra={"problems": [_problem_json(problem) for problem in catalog.problems]},
                said=True,
            )
    leave(exits.OK)


def _catalog_json(catalog: Catalog) -> dict[str, Any]:
    return {
        "schema": "belugawf.workflows/1",
        "workflows": [_workflow_json(definition) for definition in catalog.workflows.values()],
        "problems": [_problem_json(problem) for problem in catalog.problems],
    }


def _workflow_json(definition: WorkflowDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "doc": definition.doc,
        "location": definition.location,
        "timeout": None if definition.timeout is None else format_duration(definition.timeout),
        "parameters": [
            {
                "name": parameter.name,
                "type": parameter.annotation_text,
                "required": parameter.required,
                "default": parameter.default_text,
            }
            for parameter in definition.parameters
        ],
    }


def _problem_json(problem: ModuleProblem) -> dict[str, Any]:
    return {
        "path": str(problem.path),
        "line": problem.line,
        "message": problem.message,
        "traceback": problem.traceback,
    }


def _print_catalog(session: Session, catalog: Catalog) -> None:
    rows = [
        (
            escape(definition.name),
            escape(", ".join(_parameter_text(p) for p in definition.parameters)),
            escape(definition.doc),
            escape(_short_location(definition.location)),
        )
        for definition in catalog.workflows.values()
    ]
    if rows or not session.data_terminal:
        render.table(("NAME", "PARAMETERS", "WHAT", "WHERE"), rows, paint=session.paint)
    for problem in catalog.problems:
        STREAMS.say(f"{session.talk_paint('error:', 'red')} {escape(problem)}")
        if problem.traceback and session.verbose:
            STREAMS.say(render.escape_lines(problem.traceback))
    if not rows and not catalog.problems:
        where = escape(session.settings.workflows)
        session.say(f"there is no workflow in {where}; make an example with: belugawf init")


def _parameter_text(parameter: Any) -> str:
    text = str(parameter.name)
    if parameter.annotation_text:
        text += f": {parameter.annotation_text}"
    if not parameter.required:
        text += f" = {parameter.default_text}"
    return text


def _short_location(location: str) -> str:
    path, _, line = location.rpartition(":")
    try:
        return f"{Path(path).relative_to(Path.cwd())}:{line}"
    except (ValueError, OSError):
        return location


# -- init ----------------------------------------------------------------------------------------

_CONFIGURATION = """\
# belugawf: everything here is optional; these are the defaults.
workflows: workflows
db: .belugawf/state.db
"""

_EXAMPLE = '''\
"""An example: greet somebody, after a person has agreed to it."""

from belugawf import RetryPolicy, SignalTimeoutError, WorkflowContext, activity, workflow


@activity(retry=RetryPolicy(max_attempts=3, initial_delay="1s"), timeout="30s")
def compose(name: str) -> str:
    """Activities do the real work: call services, read files. Each result is recorded."""
    return f"Hello, {name}!"


@workflow
async def greeting(ctx: WorkflowContext, name: str) -> str:
    """Compose a greeting and wait for an approval."""
    text = await ctx.execute_activity(compose, name)
    try:
        approval = await ctx.wait_for_signal(
            "approval", timeout="24h", type=bool, prompt=f"Send {text!r}?"
        )
    except SignalTimeoutError:
        return "Nobody answered."
    return text if approval.payload else "Not approved."
'''


@app.command("init", cls=Command)
def init_command(
    ctx: typer.Context,
    directory: Annotated[
        str | None,
        typer.Argument(metavar="DIR", help="Where; here, unless given.", show_default=False),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write a configuration and an example workflow.

    What exists is left as it is.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    root = Path(directory) if directory is not None else Path()
    created: list[Path] = []
    existing: list[Path] = []
    for path, text in (
        (root / ".belugawf.yaml", _CONFIGURATION),
        (root / "workflows" / "greeting.py", _EXAMPLE),
    ):
        (created if _write_new(path, text) else existing).append(path)
    if json:
        session.print_json(
            {
                "schema": "belugawf.init/1",
                "created": [str(path) for path in created],
                "existing": [str(path) for path in existing],
            }
        )
        leave(exits.OK)
    for path in created:
        STREAMS.write(f"{escape(path)}\n")
    for path in existing:
        session.say(f"{escape(path)} exists already and was left as it is")
    place = Path(session.flags.directory or ".") / root
    here = [] if place == Path() else ["-C", str(place)]
    session.say(
        "next: " + escape(command_line("run", "greeting", flags=here, options=("-i", "Ada")))
    )
    leave(exits.OK)


def _write_new(path: Path, text: str) -> bool:
    """Write a file that does not exist yet; whether it was written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if path.parent.is_dir():
            return False
        raise UnavailableError(
            f"{path.parent} is no directory", hint="choose another place: belugawf init DIR"
        ) from None
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be written: {error.strerror}", hint="check the directory's permissions"
        ) from None
    return True
