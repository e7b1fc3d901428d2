"""Rows that a hand has edited: said with the run's name, and no other run is hidden or held up."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project

# What was changed, and whether the run can still be shown.
EDITS = {
    "labels": "UPDATE runs SET labels = '{' WHERE workflow_id = 'a'",
    "input": "UPDATE runs SET input = '[1' WHERE workflow_id = 'a'",
    "created_at": f"UPDATE runs SET created_at = {2**63 - 1} WHERE workflow_id = 'a'",
    "deadline": f"UPDATE runs SET deadline = {2**63 - 1} WHERE workflow_id = 'a'",
    "due_at": f"UPDATE runs SET due_at = {-(2**63)} WHERE workflow_id = 'a'",
    "problem": "UPDATE live SET problem = '0' WHERE run = (SELECT key FROM runs WHERE "
    "workflow_id = 'a')",
    "event type": "UPDATE events SET type = 'Nothing' WHERE type = 'WaitStarted' AND run = (SELECT "
    "key FROM runs WHERE workflow_id = 'a')",
    "event time": "UPDATE events SET time = -1 WHERE type = 'WaitStarted' AND run = (SELECT key "
    "FROM runs WHERE workflow_id = 'a')",
    "event data": "UPDATE events SET data = '{\"due_at\": 5}' WHERE type = 'TimerStarted' AND "
    "run = (SELECT key FROM runs WHERE workflow_id = 'a')",
    "no events": "DELETE FROM events WHERE run = (SELECT key FROM runs WHERE workflow_id = 'a')",
    "first event": "DELETE FROM events WHERE position = 1 AND run = (SELECT key FROM runs WHERE "
    "workflow_id = 'a')",
    "last event": "DELETE FROM events WHERE run = 1 AND type = 'WaitStarted'",
    "wait's schema": "UPDATE waits SET schema = '{' WHERE run = 1",
    "inbox time": "UPDATE inbox SET sent_at = -1 WHERE run = 1",
    "inbox payload": "UPDATE inbox SET payload = '{' WHERE run = 1",
    "inbox kind": "UPDATE inbox SET kind = 'wish' WHERE run = 1",
}


@pytest.mark.parametrize("edit", EDITS)
def test_one_edited_run(project: Project, edit: str) -> None:
    """It is 12 where it is read or driven; the other run is listed, driven and completed."""
    for name in ("a", "b"):
        project.cli("run", "asking", "--id", name)
        project.cli("signal", "approval", name, "--text", "on", "--no-resume")
    project.change_db("PRAGMA foreign_keys = OFF; " + EDITS[edit])
    before = project.query_db("SELECT * FROM events WHERE run = 1")
    resumed = project.cli("resume", check=None).no_traceback()
    assert resumed.code in (0, 12), resumed
    assert project.result("b") == "it on is done"
    assert project.query_db("SELECT * FROM events WHERE run = 1")[: len(before)] == before
    listed = project.cli("list", "--json").json
    assert {run["workflow_id"] for run in listed} == {"a", "b"}
    for command in ("status", "history", "terminate"):
        shown = project.cli(command, "a", "--json", check=None).no_traceback()
        assert shown.code in (0, 9, 12), shown
        if shown.code == 12:
            assert shown.error["code"] == "damaged"
            assert "'a'" in shown.error["message"]
            assert shown.error["hint"]


def test_a_result_that_is_no_json(project: Project) -> None:
    """A result that cannot be read is 12, never null."""
    project.cli("run", "simple", "--id", "s")
    project.change_db("UPDATE runs SET result = '{'")
    refused = project.cli("result", "s", "--json", check=12)
    assert refused.error["code"] == "damaged"
    assert project.cli("list", "--json").json[0]["problem"]["code"] == "damaged"
    assert "damaged" in project.cli("list").out
    project.python(
        """
        import asyncio
        from belugawf import new_executor
        from belugawf.model.errors import DamagedError

        async def main():
            async with new_executor("default", db=".belugawf/state.db") as executor:
                try:
                    print(await executor.handle("s").result())
                except DamagedError as error:
                    return
                raise AssertionError("nothing was said")

        asyncio.run(main())
        """
    )


def test_damage_is_no_fault_of_the_code(project: Project) -> None:
    """An argument that isn't valid JSON any more is damage, not code that has changed."""
    project.cli("run", "asking", "--id", "a")
    project.cli("signal", "approval", "a", "--text", "on", "--no-resume")
    project.change_db("UPDATE events SET payload = '{' WHERE type = 'WorkflowStarted'")
    resumed = project.cli("resume", "a", check=12).no_traceback()
    assert "not as belugawf wrote it: event 1" in resumed.err


def test_owners_may_be_lost(project: Project) -> None:
    """What is stored of processes is no history: nonsense there stops nobody."""
    project.cli("run", "asking", "--id", "a")
    project.change_db(
        "INSERT INTO owners (id, pid, host, boot_id, since, role, workflows) VALUES "
        "('x', 99999999999, 'h', 'b', -5, 'worker', '{'); "
        "UPDATE live SET owner = 'x', owned_since = -5"
    )
    project.cli("status", "a", check=None).no_traceback()
    project.cli("signal", "approval", "a", "--text", "on")
    assert project.result("a") == "it on is done"


def test_no_text(project: Project) -> None:
    """Bytes that are no text, as a name, are 2 or 10."""
    project.cli("run", "asking", "--id", "a")
    for command in (
        ("status", "\udcff"),
        ("list", "--workflow", "\udcff"),
        ("signal", "approval", "a", "--key", "\udcff", "--text", "x"),
        ("signal", "\udcff", "a", "--text", "x"),
        ("cancel", "a", "--reason", "\udcff"),
    ):
        refused = project.cli(*command, "--json", check=None).no_traceback()
        assert refused.code in (2, 10), refused
        assert "text" in refused.error["message"]
    assert project.waits("a", "approval")


def test_nothing_is_left_beside_other_files(project: Project) -> None:
    """A link to somebody's file, in the database's place, changes nothing beside that file."""
    other = project.root / "elsewhere" / "letter.txt"
    other.parent.mkdir()
    other.write_text("This is a letter, no database.\n" * 100)
    project.db.parent.mkdir(mode=0o700)
    project.db.symlink_to(other)
    project.cli("run", "simple", check=12).no_traceback()
    assert [path.name for path in other.parent.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("loop", [".belugawf", ".belugawf/state.db"])
def test_links_in_a_circle(project: Project, loop: str) -> None:
    """A link that leads to itself, in place of the folder or the database, is 12."""
    path = project.root / loop
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path)
    project.cli("run", "simple", check=12).no_traceback()
    project.cli("doctor", check=12).no_traceback()


def test_a_schema_that_is_no_text(project: Project) -> None:
    """A flipped bit in a name of the schema, which SQLite's own message quotes, is 12."""
    project.cli("run", "simple", "--id", "s")
    project.change_db("PRAGMA wal_checkpoint(TRUNCATE)")
    content = project.db.read_bytes()
    for kind, name in ((b"index", b"live_problems"), (b"view", b"runs_view"), (b"table", b"runs")):
        place = content.index(kind + name) + len(kind)
        project.db.write_bytes(content[:place] + b"\xf2" + content[place + 1 :])
        for command in (("status",), ("run", "simple"), ("resume",), ("doctor",)):
            refused = project.cli(*command, "--json", check=12).no_traceback()
            assert refused.error["hint"]
