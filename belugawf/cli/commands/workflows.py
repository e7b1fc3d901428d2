"""workflows: what can be run, and the modules that do not import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from belugawf.cli import exits, render
from belugawf.cli.exits import CommandError
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.starting import require_folder
from belugawf.cli.streams import STREAMS
from belugawf.cli.tables import table
from belugawf.model.durations import format_duration
from belugawf.model.errors import WorkflowLoadError, WorkflowNotFoundError

if TYPE_CHECKING:
    from belugawf.authoring.loader import Catalog, ModuleProblem
    from belugawf.authoring.workflow import WorkflowDefinition


def command(session: Session) -> None:
    """List the workflows, and the modules that fail to import.

    With their parameters, first paragraphs, and where they are defined.
    """
    with STREAMS.diverted():
        # Not entered: looking at modules needs no database.
        catalog = session.executor().catalog
        nothing = bool(catalog.problems) and not catalog.workflows
        if not catalog.workflows:
            _warn_of_place(session)
        if session.json and not nothing:
            session.print_json(_catalog_json(catalog))
        elif not session.json:
            _print_catalog(session, catalog)
        if nothing:
            raise CommandError(
                exits.NOT_LOADED,
                WorkflowLoadError.code,
                f"no workflow could be loaded: {catalog.problems[0]}",
                hint="fix that module, then try again: belugawf workflows",
                extra={"problems": [_problem_json(problem) for problem in catalog.problems]},
                printed=True,
            )


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
        table(("NAME", "PARAMETERS", "WHAT", "WHERE"), rows, paint=session.paint, prose=2)
    for problem in catalog.problems:
        STREAMS.say(f"{session.talk_paint('error:', 'red')} {escape(problem)}")
        if problem.traceback and session.verbose:
            STREAMS.say(render.escape_lines(problem.traceback))
    if not rows and not catalog.problems and session.settings.workflows.is_dir():
        where = escape(session.settings.workflows)
        session.say(f"there is no workflow in {where}; make an example with: belugawf init")


def _warn_of_place(session: Session) -> None:
    """Say to scripts too if there is no folder of modules."""
    try:
        require_folder(session.settings, "there is no workflow")
    except WorkflowNotFoundError as error:
        STREAMS.say(f"warning: {escape(error.message)}; {error.hint}")


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
