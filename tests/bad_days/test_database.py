"""Databases that are locked, read-only, full, newer, or none at all; and who may read them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time

import pytest

from tests.conformance.harness import Project, Result, wait_for


def test_locked(project: Project) -> None:
    """A database that another program keeps locked is 11; what was there is there afterwards."""
    project.cli("run", "asking", "--id", "a")
    history = project.history("a")
    env = {"BELUGAWF_TEST_BUSY_TIMEOUT": "0.3"}
    with contextlib.closing(sqlite3.connect(project.db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for command in (
            ("run", "simple", "--id", "s"),
            ("signal", "approval", "a", "--text", "on"),
            ("cancel", "a"),
        ):
            refused = project.cli(*command, "--json", check=11, env=env)
            assert refused.error["code"] == "busy"
            assert "locked" in refused.error["message"] or "held" in refused.error["message"]
            assert refused.error["hint"]
            project.cli(*command, check=11, env=env).no_traceback()
        # Questions are not disturbed by a writer.
        assert project.status("a")["status"] == "running"
        other.execute("ROLLBACK")
    assert project.history("a") == history
    assert [run["workflow_id"] for run in project.cli("list", "--json").json] == ["a"]
    project.cli("signal", "approval", "a", "--text", "on")
    assert project.result("a") == "it on is done"


def test_locked_for_a_moment(project: Project) -> None:
    """A lock that is let go in time is waited for."""
    project.cli("run", "asking", "--id", "a")
    with contextlib.closing(sqlite3.connect(project.db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sender = project.start("signal", "approval", "a", "--text", "on")
        # Whether it waits already or comes later: both must end well.
        later = time.monotonic() + 1.5
        wait_for(lambda: time.monotonic() > later, process=sender)
        other.execute("ROLLBACK")
    sender.wait()
    assert project.result("a") == "it on is done"


def without_override(project: Project, *args: str) -> Result:
    """Run the CLI without root's right to write what is read-only."""
    command = [sys.executable, "-m", "belugawf", *args]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root may write everything here")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(
        command,
        cwd=project.root,
        env=project.env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(args, done.returncode, done.stdout, done.stderr)


def change_modes(project: Project, file_mode: int, folder_mode: int) -> None:
    """Change the modes of the state folder and of everything in it."""
    folder = project.db.parent
    folder.chmod(0o700)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(folder_mode if path.is_dir() else file_mode)


@pytest.mark.parametrize(
    ("folder_mode", "named"), [(0o500, ".belugawf"), (0o700, "state.db")], ids=["folder", "file"]
)
def test_read_only(project: Project, folder_mode: int, named: str) -> None:
    """A read-only folder or database is 12 and named; what is in it stays."""
    project.cli("run", "asking", "--id", "a")
    history = project.history("a")
    change_modes(project, 0o400, folder_mode)
    try:
        for command in (("run", "asking", "--id", "b"), ("signal", "approval", "a")):
            refused = without_override(project, *command, "--json")
            assert refused.code == 12, refused
            assert refused.error["code"] == "unavailable"
            assert named in refused.error["message"]
            assert refused.error["hint"]
            without_override(project, *command).no_traceback()
    finally:
        change_modes(project, 0o600, 0o700)
    assert project.history("a") == history
    project.cli("signal", "approval", "a", "--text", "on")
    assert project.result("a") == "it on is done"


@pytest.mark.parametrize(
    "command", ["status", "list", "resume", "signal approval a", "run simple", "terminate a"]
)
def test_folder_of_somebody_else(project: Project, command: str) -> None:
    """A state folder that may not be entered, as after a first run by root, is 12 and named."""
    project.cli("run", "asking", "--id", "a")
    project.db.parent.chmod(0)
    try:
        refused = without_override(project, *command.split(), "--json")
        assert refused.code == 12, refused
        assert refused.error["code"] == "unavailable"
        assert ".belugawf" in refused.error["message"]
        assert refused.error["hint"]
        doctor = without_override(project, "doctor", "--json")
        assert doctor.code == 12, doctor
        found = {check["check"]: check["state"] for check in doctor.error["checks"]}
        assert (found["file system"], found["database"]) == ("FAIL", "FAIL")
    finally:
        project.db.parent.chmod(0o700)
    assert project.waits("a", "approval")


ASKING = """
    @workflow
    async def asking(ctx: WorkflowContext, text: str = "") -> int | str:
        return (await ctx.wait_for_signal("go")).payload
"""


def test_full_disk(project: Project) -> None:
    """When the disk is full, it is 12; whatever was acknowledged before is there and goes on."""
    project.write_module("filling", ASKING.replace("asking", "filling"))
    project.cli("run", "filling", "--id", "r-0", "-d")
    ((pages,),) = project.query_db("PRAGMA page_count")
    env = {"BELUGAWF_TEST_MAX_PAGES": str(pages + 20)}
    acknowledged = ["r-0"]
    for number in range(1, 60):
        name = f"r-{number}"
        started = project.cli(
            "run", "filling", "--id", name, "-i", "x" * 8000, "-d", check=None, env=env
        )
        if started.code != 0:
            break
        acknowledged.append(name)
    assert started.code == 12, started
    started.no_traceback()
    assert "full" in started.err
    refused = project.cli(
        "run", "filling", "--id", "z", "-i", "x" * 8000, "--json", check=12, env=env
    )
    assert refused.error["code"] == "unavailable"
    assert refused.error["hint"]
    project.cli("resume", check=None, env=env).no_traceback()
    listed = project.cli("list", "--json", "--all").json
    assert sorted(run["workflow_id"] for run in listed) == sorted(acknowledged)

    project.cli("resume")
    for name in acknowledged:
        assert project.waits(name, "go")
    project.cli("signal", "go", acknowledged[-1], "--payload", "5")
    assert project.result(acknowledged[-1]) == 5


def test_full_disk_under_a_worker(project: Project) -> None:
    """A worker that meets a full disk pauses, and goes on once there is room: nothing is lost."""
    project.write_module("filling", ASKING.replace("asking", "filling"))
    project.cli("run", "filling", "--id", "r")
    ((pages,),) = project.query_db("PRAGMA page_count")
    project.cli("signal", "go", "r", "--payload", '"' + "y" * 40_000 + '"', "--no-resume")
    ((filled,),) = project.query_db("PRAGMA page_count")
    resumed = project.cli(
        "resume", check=None, env={"BELUGAWF_TEST_MAX_PAGES": str(filled)}
    ).no_traceback()
    assert filled > pages
    shown = project.status("r")
    if resumed.code == 0:
        assert shown["status"] == "completed"
    else:
        assert resumed.code == 12, resumed
        assert "full" in resumed.err
        assert shown["status"] == "running"
    project.cli("resume")
    assert project.result("r") == "y" * 40_000


def test_newer_schema(project: Project) -> None:
    """A database of a newer version is 12, says to upgrade, and is not touched."""
    project.cli("run", "asking", "--id", "a")
    project.change_db("PRAGMA user_version = 999; PRAGMA wal_checkpoint(TRUNCATE);")
    before = project.db.read_bytes()
    for command in (("status",), ("run", "simple"), ("signal", "approval", "a", "--text", "x")):
        refused = project.cli(*command, "--json", check=12)
        assert refused.error["code"] == "unavailable"
        assert "newer" in refused.error["message"]
        assert "999" in refused.error["message"]
        assert "upgrade" in refused.error["hint"]
        project.cli(*command, check=12).no_traceback()
    assert project.db.read_bytes() == before
    project.change_db("PRAGMA user_version = 1;")
    assert project.waits("a", "approval")


@pytest.mark.parametrize(
    "content", [b"This is a letter, no database.\n" * 100, b"\x00" * 5000], ids=["text", "zeros"]
)
def test_not_a_database(project: Project, content: bytes) -> None:
    """A file that is no database is 12 and names the file, which is left as it is."""
    project.db.parent.mkdir(mode=0o700)
    project.db.write_bytes(content)
    for command in (("status",), ("run", "simple"), ("resume",)):
        refused = project.cli(*command, "--json", check=12)
        assert refused.error["code"] == "unavailable"
        assert "state.db" in refused.error["message"]
        project.cli(*command, check=12).no_traceback()
    assert project.db.read_bytes() == content


@pytest.mark.parametrize("version", [0, 1, 7])
def test_database_of_another_program(project: Project, version: int) -> None:
    """Another program's SQLite database is 12, whatever its version says. It gets no tables of
    ours, and keeps its journal mode."""
    project.db.parent.mkdir(mode=0o700)
    project.change_db(
        "CREATE TABLE customers (name TEXT); INSERT INTO customers VALUES ('Ada');"
        f"PRAGMA user_version = {version};"
    )
    refused = project.cli("run", "simple", "--json", check=12)
    assert "another program" in refused.error["message"]
    assert project.query_db("SELECT name FROM sqlite_schema") == [("customers",)]
    assert project.query_db("PRAGMA journal_mode") == [("delete",)]


def test_database_is_a_folder(project: Project) -> None:
    """A folder in the database's place is 12."""
    project.db.mkdir(parents=True)
    refused = project.cli("run", "simple", "--json", check=12)
    assert "state.db" in refused.error["message"]
    project.cli("run", "simple", check=12).no_traceback()


@pytest.mark.new_interpreters
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
def test_state_is_private(project: Project, umask: int) -> None:
    """The state folder is 0700 and its files 0600 whatever the umask, alive and at rest."""
    previous = os.umask(umask)
    try:
        worker = project.start("worker")
        started = project.start("run", "asking", "--id", "a", "-d")
    finally:
        os.umask(previous)
    started.wait()
    wait_for(lambda: project.waits("a", "approval"), process=worker)
    assert_private(project)
    worker.kill()
    project.cli("signal", "approval", "a", "--text", "on")
    assert_private(project)


def assert_private(project: Project) -> None:
    folder = project.db.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            modes[path.name] = (path.is_dir(), stat.S_IMODE(path.lstat().st_mode))
    assert "state.db" in modes
    wrong = {n: oct(m) for n, (is_dir, m) in modes.items() if m != (0o700 if is_dir else 0o600)}
    assert not wrong
