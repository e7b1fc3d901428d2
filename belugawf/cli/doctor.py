"""doctor: is everything here that a run needs? One line each, with the fix.

It looks without changing anything: no database is created, no run is touched. Everything is
checked on its own, so that one broken part does not hide the others.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from belugawf.cli import exits, options
from belugawf.cli.app import Command, command_group
from belugawf.cli.exits import CommandError
from belugawf.cli.render import escape
from belugawf.cli.session import Session, leave
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import BelugaError, ConfigurationError
from belugawf.model.shell import quoted
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.config import Settings
    from belugawf.executor import DurableExecutor, Owner

app = command_group()

OK, WARN, FAIL = "OK", "WARN", "FAIL"
_STYLES = {OK: "green", WARN: "yellow", FAIL: "red"}

# Under the first a day's histories may not fit; under the second SQLite cannot even checkpoint.
_LITTLE_SPACE_BYTES = 500_000_000
_NO_SPACE_BYTES = 20_000_000
# The oldest SQLite with all that the store uses: RETURNING and STRICT tables.
_OLDEST_SQLITE = (3, 37, 0)


@frozen()
class Finding:
    """One line: what was checked, how it is, and the fix (`None` where nothing is to be done)."""

    check: str
    state: str
    message: str
    fix: str | None = None
    exit_code: int = exits.UNAVAILABLE

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "state": self.state,
            "message": self.message,
            "fix": self.fix,
        }


@app.command("doctor", cls=Command)
def doctor_command(
    ctx: typer.Context,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Check configuration, modules, database and environment.

    Each line says OK, WARN or FAIL, with the fix. Ends with 0 unless one of them is FAIL.
    """
    session = Session(ctx, json=json, quiet=quiet, verbose=verbose)
    with STREAMS.diverted():
        findings: list[Finding] = []
        for finding in _examine(session):
            findings.append(finding)
            if not json:
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
            said=True,
        )
    if session.json:
        session.print_json({"schema": "belugawf.doctor/1", "checks": document})
    leave(exits.OK)


def _examine(session: Session) -> Iterator[Finding]:
    yield _python()
    settings, finding = _configuration(session)
    yield finding
    yield _packages()
    if settings is None:
        return
    yield from _modules(settings)
    if settings.provider == "default":
        database = Path(settings.db)
        yield _location(database)
        yield _disk_space(database)
        try:
            there = database.exists()
        except OSError as error:
            fix = "allow this user to enter its folder, or name another place: --db FILE"
            yield Finding("database", FAIL, f"{database} is out of reach: {error.strerror}", fix)
        else:
            yield _permissions(database, there)
            yield _database(database, there)
    yield from _provider(session)
    if settings.provider == "default":
        # Late: whoever opens the database, as the provider does, puts this right if it can.
        yield from _journal(Path(settings.db))


# -- the environment -----------------------------------------------------------------------------


def _python() -> Finding:
    python = ".".join(str(part) for part in sys.version_info[:3])
    versions = f"Python {python}, SQLite {sqlite3.sqlite_version}"
    if sys.platform == "win32":
        return Finding("system", FAIL, "Windows is not supported", "use Linux, macOS or WSL")
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in _OLDEST_SQLITE)
        return Finding("system", FAIL, f"{versions} is too old", f"{oldest} or newer is needed")
    return Finding("system", OK, versions)


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
            return await executor.workers()  # type: ignore[attr-defined,no-any-return]
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


# -- the database --------------------------------------------------------------------------------


def _nearest_folder(path: Path) -> Path:
    """The folder of the file, or the nearest one above it that exists."""
    folder = path.absolute().parent
    # Not `Path.is_dir`, which raises below a folder that may not be entered.
    while not os.path.isdir(folder) and folder != folder.parent:  # noqa: PTH112
        folder = folder.parent
    return folder


def _location(database: Path) -> Finding:
    from belugawf.local.filesystem import check_location

    try:
        check_location(database, create=False)
    except BelugaError as error:
        return Finding("file system", FAIL, error.message, error.hint, error.exit_code)
    return Finding("file system", OK, f"{_nearest_folder(database)} can hold a database")


def _disk_space(database: Path) -> Finding:
    folder = _nearest_folder(database)
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free in {folder}"
    if free < _NO_SPACE_BYTES:
        return Finding("disk", FAIL, message, "make room, or move the database: --db FILE")
    if free < _LITTLE_SPACE_BYTES:
        return Finding("disk", WARN, message, "make room before histories fill it")
    return Finding("disk", OK, message)


def _permissions(database: Path, there: bool) -> Finding:
    if not there:
        return Finding("permissions", OK, "a new database is private to you")
    if not os.access(database, os.R_OK | os.W_OK):
        return Finding(
            "permissions",
            FAIL,
            f"{database} is not writable",
            f"chmod u+rw {quoted(str(database))}",
        )
    if database.stat().st_mode & 0o077:
        return Finding(
            "permissions", WARN, f"others may use {database}", f"chmod 600 {quoted(str(database))}"
        )
    return Finding("permissions", OK, f"{database} is private to you")


def _database(database: Path, there: bool) -> Finding:
    if not there:
        return Finding("database", OK, f"{database} does not exist yet")
    try:
        trouble = _read_only(database, _quick_check)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return Finding(
            "database",
            FAIL,
            f"{database} cannot be read: {error}",
            "restore it from a backup, or name another one: --db FILE",
        )
    if trouble is not None:
        return Finding(
            "database",
            FAIL,
            f"{database} is damaged: {trouble}",
            f"stop every worker, then: sqlite3 {quoted(str(database))} .recover",
        )
    return Finding("database", OK, f"{database} is sound")


def _journal(database: Path) -> Iterator[Finding]:
    try:
        mode = _read_only(database, _journal_mode)
    except (sqlite3.Error, UnicodeDecodeError):
        return  # it does not exist yet, or cannot be read: that was said
    if mode != "wal":
        yield Finding(
            "journal",
            WARN,
            f"{database} is in journal mode {mode}: readers and writers keep each other out",
            "end the programs that have it open; the next command switches to WAL",
        )


def _journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _quick_check(connection: sqlite3.Connection) -> str | None:
    (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if answer == "ok" else str(answer)


def _read_only(database: Path, ask: Callable[[sqlite3.Connection], str | None]) -> str | None:
    # Only SQLite itself may open the file: closing a plain handle drops SQLite's locks.
    uri = database.absolute().as_uri() + "?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=5)
    try:
        return ask(connection)
    finally:
        connection.close()
