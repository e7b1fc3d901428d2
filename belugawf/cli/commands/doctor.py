"""doctor: is everything here that a run needs? One line each, with the fix.

It looks without changing anything: no database is created, no run is touched. Everything is
checked on its own, so that one broken part does not hide the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from belugawf.cli import checks, layout
from belugawf.cli.exits import CommandError
from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS
from belugawf.probe import FAIL, OK, WARN, Finding, probe_of

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
    if not session.data_terminal:
        cells = (finding.state, finding.check, finding.message, finding.fix or "")
        STREAMS.write("\t".join(escape(cell) for cell in cells) + "\n")
        return
    lines = [f"{state}  {finding.check}: {escape(finding.message)}"]
    if finding.fix:
        lines.append(f"      fix: {escape(finding.fix)}")
    width = layout.columns(STREAMS.data)
    STREAMS.write("".join(layout.fit(line, width, indent=6) + "\n" for line in lines))


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
    settings, finding = checks.check_configuration(session)
    yield finding
    yield from checks.check_environment()
    yield checks.check_packages()
    if settings is None:
        return
    catalog = checks.load_catalog(settings)
    if isinstance(catalog, Finding):
        yield catalog
    else:
        yield from checks.check_modules(settings, catalog)
        yield from checks.check_default_workflow(settings, catalog)
    probe = probe_of(settings.provider)
    yield from probe.checks(settings)
    if session.nothing_stored and session.seems_misplaced:
        fix = "name the right one with --db, or its folder with -C"
        yield Finding("place", WARN, f"{settings.db} does not exist", fix)
    yield from checks.check_provider(session)
    yield from probe.checks_in_use(settings)
    if not isinstance(catalog, Finding):
        yield from checks.check_open_workflows(session, catalog)
