"""doctor: is everything here that a run needs? One line each, with the fix.

It looks without changing anything: no database is created, no run is touched. Everything is
checked on its own, so that one broken part does not hide the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from belugawf.cli import exits
from belugawf.cli.exits import CommandError
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import BelugaError, ConfigurationError
from belugawf.probe import FAIL, OK, WARN, Finding, probe_of

if TYPE_CHECKING:
    from belugawf.config import Settings
    from belugawf.executor import DurableExecutor, Owner

_STYLES = {OK: "green", WARN: "yellow", FAIL: "red"}


def command(session: Session) -> None:
    """Check configuration, modules, database and environment.

    Each line says OK, WARN or FAIL, with the fix. Ends with 0 unless one of them is FAIL.
    """
    with STREAMS.diverted():
        findings: list[Finding] = []
        for finding in _examine(session):
            findings.append(finding)
            if not session.json:
                _print(session, finding)
        _finish(session, findings)


def _print(session: Session, finding: Finding) -> None:
    state = session.paint(finding.state.ljust(4), _STYLES[finding.state])
    line = f"{state}  {finding.check}: {escape(finding.message)}"
    if finding.fix:
        line += f"; {escape(finding.fix)}"
    if not session.data_terminal:
        cells = (finding.state, finding.check, finding.message, finding.fix or "")
        line = "\t".join(escape(cell) for cell in cells)
    STREAMS.write(line + "\n")


def _finish(session: Session, findings: Sequence[Finding]) -> None:
    failed = [finding for finding in findings if finding.state == FAIL]
    document = [finding.to_json() for finding in findings]
    if failed:
        first = failed[0]
        raise CommandError(
            first.exit_code,
            "doctor",
            f"{first.check}: {first.message}",
            hint=first.fix,
            extra={"checks": document},
            printed=True,
        )
    if session.json:
        session.print_json({"schema": "belugawf.doctor/1", "checks": document})


def _examine(session: Session) -> Iterator[Finding]:
    # The default provider's: it is part of every installation, whatever the configuration says.
    yield probe_of("default").system()
    settings, finding = _configuration(session)
    yield finding
    yield _packages()
    if settings is None:
        return
    yield from _modules(settings)
    probe = probe_of(settings.provider)
    yield from probe.checks(settings)
    yield from _provider(session)
    yield from probe.checks_in_use(settings)


def _packages() -> Finding:
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


def _configuration(session: Session) -> tuple[Settings | None, Finding]:
    try:
        settings = session.settings
    except BelugaError as error:
        code = error.exit_code if isinstance(error, ConfigurationError) else exits.NOT_LOADED
        return None, Finding("configuration", FAIL, error.message, error.hint, code)
    source = settings.source
    return settings, Finding(
        "configuration", OK, str(source) if source else "no file; the defaults hold"
    )


def _modules(settings: Settings) -> Iterator[Finding]:
    from belugawf.authoring.loader import Catalog

    # Not through an executor: a provider that is missing says nothing about modules.
    catalog = Catalog.from_folder(settings.workflows)
    for problem in catalog.problems:
        yield Finding("modules", FAIL, str(problem), "mend or remove that module", exits.NOT_LOADED)
    folder = settings.workflows
    if catalog.workflows:
        count = len(catalog.workflows)
        names = f"{count} workflow{'s' if count != 1 else ''}"
        yield Finding("modules", OK, f"{names} in {folder}")
    elif not catalog.problems:
        yield Finding(
            "modules", WARN, f"no workflow in {folder}", "make an example with: belugawf init"
        )


def _provider(session: Session) -> Iterator[Finding]:
    settings = session.settings
    name = settings.provider

    async def ask(executor: DurableExecutor) -> Sequence[Owner] | None:
        if name == "temporal":
            return await executor.workers()
        await executor.summary()
        return None

    if session.nothing_stored:
        yield Finding("provider", OK, "default; the first run creates its database")
        return
    try:
        workers = session.run(ask)
    except BelugaError as error:
        yield Finding("provider", FAIL, f"{name}: {error.message}", error.hint, error.exit_code)
        return
    if workers is None:
        yield Finding("provider", OK, f"{name} answers")
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
