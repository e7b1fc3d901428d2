"""What `doctor` looks at, one finding a line; each check stands by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextvars import Context
from importlib.util import find_spec
from typing import TYPE_CHECKING

from belugawf.cli import exits, render, sentences
from belugawf.cli.session import Session
from belugawf.model.durations import SECOND_NS
from belugawf.model.errors import BelugaError, ConfigurationError
from belugawf.probe import FAIL, OK, WARN, Finding, probe_of

if TYPE_CHECKING:
    from belugawf.authoring.loader import Catalog
    from belugawf.config import Settings
    from belugawf.executor import DurableExecutor, Owner, Summary


# Cron comes every few minutes: what has been due for longer is left lying.
_LONG_NS = 900 * SECOND_NS


def check_environment() -> Iterator[Finding]:
    from belugawf.config import unknown_variables

    for sentence in unknown_variables(os.environ):
        yield Finding("environment", WARN, sentence, "rename it, or unset it")


def check_packages() -> Finding:
    for module, purpose in (
        ("typer", "the command line"),
        ("rich", "tables and the live view"),
        ("sqlite_utils", "exports and migrations"),
        ("yaml", "the configuration file"),
    ):
        if find_spec(module) is None:
            return Finding(
                "packages", FAIL, f"{module} is missing ({purpose})", "pip install belugawf"
            )
    return Finding("packages", OK, "all are installed")


def check_configuration(session: Session) -> tuple[Settings | None, Finding]:
    try:
        settings = session.settings
    except BelugaError as error:
        code = error.exit_code if isinstance(error, ConfigurationError) else exits.NOT_LOADED
        return None, Finding("configuration", FAIL, error.message, error.hint, code)
    source = settings.source
    return settings, Finding(
        "configuration", OK, str(source) if source else "no file; the defaults hold"
    )


def load_catalog(settings: Settings) -> Catalog | Finding:
    from belugawf.host.modules import import_folder

    # Not through an executor: a provider that is missing says nothing about modules.
    try:
        return import_folder(settings.workflows, Context())
    except BelugaError as error:
        return Finding("modules", FAIL, error.message, error.hint, error.exit_code)


def check_modules(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    for problem in catalog.problems:
        yield Finding("modules", FAIL, str(problem), "fix or remove that module", exits.NOT_LOADED)
    folder = settings.workflows
    if catalog.workflows:
        count = len(catalog.workflows)
        names = f"{count} workflow{'s' if count != 1 else ''}"
        yield Finding("modules", OK, f"{names} in {folder}")
    elif not catalog.problems:
        fix = "make an example with: belugawf init"
        what = f"no workflow in {folder}"
        if not folder.is_dir():
            fix = f"name the folder with --workflows, or {fix}"
            what += ", which is not a folder" if folder.exists() else ", which does not exist"
        yield Finding("modules", WARN, what, fix)


def check_default_workflow(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    name = settings.default_workflow
    if name is None or name in catalog.workflows:
        return
    there = ", ".join(catalog.workflows) or "none"
    yield Finding(
        "default_workflow",
        FAIL,
        f"{settings.source} names {name!r}, which no module defines",
        f"there are: {there}",
        exits.NOT_LOADED,
    )


def check_open_workflows(session: Session, catalog: Catalog) -> Iterator[Finding]:
    """Whether every open run has its workflow."""
    for name in probe_of(session.settings.provider).open_workflows(session.settings):
        if name not in catalog.workflows:
            runs = session.command("list", options=("--workflow", name, "--status", "running"))
            yield Finding(
                "workflows",
                WARN,
                f"workflow {name!r} has open runs, and cannot be loaded",
                f"put its module back, or end them; they are: {runs}",
            )


def _problems(session: Session, summary: Summary) -> Iterator[Finding]:
    """The open runs that cannot move on."""
    for info in summary.attention:
        command = session.command("status", info.workflow_id)
        yield Finding("runs", WARN, sentences.problem_line(info), f"look at it: {command}")
    more = (summary.attention_total or 0) - len(summary.attention)
    if more > 0:
        command = session.command("list", options=("--state", "parked", "--all"))
        yield Finding("runs", WARN, f"{more:,} more runs cannot move on", f"see: {command}")


def _left_lying(session: Session, summary: Summary) -> Iterator[Finding]:
    """What can move, and nobody has come to for long."""
    since, now = summary.due_since, render.now_ns()
    if since is None or now - since < _LONG_NS:
        return
    due = summary.states.get("due", 0)
    runs = "1 run is due" if due == 1 else f"{due:,} runs are due"
    fix = f"drive them: {session.command('resume')}; is cron or the worker still there?"
    what = f"{runs}, the first since {render.relative(since)}, and nobody drives them"
    yield Finding("due", WARN, what, fix)


def check_provider(session: Session) -> Iterator[Finding]:
    settings = session.settings
    name = settings.provider

    async def ask(executor: DurableExecutor) -> tuple[Summary, Sequence[Owner] | None]:
        workers = await executor.workers() if name == "temporal" else None
        return await executor.summary(), workers

    if session.nothing_stored:
        yield Finding("provider", OK, "default; the first run creates its database")
        return
    try:
        summary, workers = session.run(ask)
    except BelugaError as error:
        yield Finding("provider", FAIL, f"{name}: {error.message}", error.hint, error.exit_code)
        return
    if workers is None:
        yield Finding("provider", OK, f"{name} answers")
        yield from _problems(session, summary)
        yield from _left_lying(session, summary)
        return
    place = settings.temporal
    where = f"{place.host}, namespace {place.namespace}"
    yield Finding("provider", OK, f"temporal answers at {where}")
    queue = f"task queue {place.task_queue}"
    if workers:
        who = ", ".join(f"{worker.pid}@{worker.host}" for worker in workers)
        yield Finding("workers", OK, f"{queue} is polled by {who}")
    else:
        fix = f"start one: {session.command('worker')}"
        yield Finding("workers", WARN, f"nobody polls {queue}", fix)
    yield from _problems(session, summary)
