"""Workflow modules that do not import, and configuration that does not fit."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project

pytestmark = pytest.mark.new_interpreters

BROKEN = {
    "missing": ("import a_library_that_is_not_installed\n", "a_library_that_is_not_installed"),
    "syntax": ("def broken(:\n    pass\n", "broken.py"),
    "raises": ("raise RuntimeError('not today')\n", "not today"),
    "exits": ("raise SystemExit(0)\n", "SystemExit"),
}

TAIL = """

from belugawf import workflow

@workflow
async def broken(ctx):
    return "mended"
"""


@pytest.mark.parametrize("kind", BROKEN)
def test_module_that_does_not_import(project: Project, kind: str) -> None:
    """It is named with its reason; the other modules' workflows still run."""
    source, reason = BROKEN[kind]
    project.write_module("broken", source + TAIL, prelude=False)
    assert project.cli("run", "simple", "--id", "s").out.strip() == "it is done"
    refused = project.cli("run", "broken", "--id", "b", "--json", check=14)
    told = f"{refused.error['message']} {refused.error['hint']}"
    assert "broken.py" in told
    assert reason in told
    project.cli("run", "broken", "--id", "b", check=14).no_traceback()
    listed = project.cli("workflows")
    assert "simple" in listed.out
    assert "broken.py" in listed.out + listed.err
    assert reason in listed.out + listed.err
    assert [run["workflow_id"] for run in project.cli("list", "--json").json] == ["s"]

    project.write_module("broken", TAIL, prelude=False)
    assert project.cli("run", "broken", "--id", "b").out.strip() == "mended"


def test_module_breaks_under_a_run(project: Project) -> None:
    """One broken module never stops the others' runs, and is not reported every minute."""
    project.write_module(
        "other", TAIL.replace('return "mended"', 'await ctx.wait_for_signal("x")'), prelude=False
    )
    project.cli("run", "broken", "--id", "b")
    project.cli("run", "asking", "--id", "a")
    project.cli("signal", "x", "b", "--no-resume")
    project.cli("signal", "approval", "a", "--text", "on", "--no-resume")
    project.write_module("other", "import a_library_that_is_not_installed\n" + TAIL, prelude=False)
    resumed = project.cli("resume", check=14).no_traceback()
    assert "b" in resumed.err
    assert "a_library_that_is_not_installed" in resumed.err
    assert project.result("a") == "it on is done"
    assert project.status("b")["status"] == "running"
    again = project.cli("resume", check=None)
    assert again.err == "", "the same problem was reported again"


def test_two_modules_with_one_workflow(project: Project) -> None:
    """Two modules that claim one workflow name: both files are named, the others still work."""
    for module in ("first", "second"):
        project.write_module(module, TAIL.replace("mended", module), prelude=False)
    refused = project.cli("run", "broken", "--json", check=14)
    told = f"{refused.error['message']} {refused.error['hint']}"
    assert "first.py" in told
    assert "second.py" in told
    assert "broken" in told
    assert project.cli("run", "simple").out.strip() == "it is done"
    assert len(project.cli("list", "--json").json) == 1


def test_no_workflows_at_all(project: Project) -> None:
    """A folder without workflows says so, and where it looked."""
    project.remove_module("good")
    refused = project.cli("run", check=None).no_traceback()
    assert refused.code in (10, 14), refused
    assert "workflows" in refused.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("durabilty: full\n", ("durabilty", "durability", ".belugawf.yaml:1:")),
        ("db: state.db\nworkflow: w\n", ("workflow", "workflows", ".belugawf.yaml:2:")),
        ("resume: {max_tme: 5m}\n", ("max_tme", "max_time", ".belugawf.yaml:1:")),
        ("db: a.db\ndb: b.db\n", ("db", ".belugawf.yaml:2:")),
        ("durability: most\n", ("most", "full", "normal", ".belugawf.yaml:1:")),
        ("resume: {max_time: 1:30}\n", ("max_time", ".belugawf.yaml:1:")),
        ("resume: {max_time: 90}\n", ("max_time", ".belugawf.yaml:1:")),
        ("max_crashes: -1\n", ("max_crashes", ".belugawf.yaml:1:")),
        ("db: [1, 2]\n", ("db", ".belugawf.yaml:1:")),
        ("- db\n", (".belugawf.yaml:1:",)),
        ("db: {\n", (".belugawf.yaml:2:",)),
        ("db: !!python/object/apply:os.system ['touch hacked']\n", (".belugawf.yaml:1:",)),
    ],
)
def test_configuration_that_does_not_fit(
    project: Project, text: str, words: tuple[str, ...]
) -> None:
    """A wrong configuration is 14 with line and nearest valid key; nothing is started."""
    project.configure(text)
    refused = project.cli("run", "simple", "--json", check=14)
    assert refused.error["code"] == "configuration"
    told = f"{refused.error['message']} {refused.error['hint']}"
    for word in words:
        assert word in told, refused
    project.cli("run", "simple", check=14).no_traceback()
    assert not (project.root / "hacked").exists()
    assert project.log() == []


def test_all_mistakes_at_once(project: Project) -> None:
    """Every mistake of a configuration is told in one go, each with its line."""
    project.configure("durabilty: full\ndurability: most\nworkflow: w\n")
    refused = project.cli("run", "simple", check=14)
    for word in (
        "durabilty",
        ".belugawf.yaml:1:",
        ".belugawf.yaml:2:",
        "most",
        ".belugawf.yaml:3:",
        "workflows",
    ):
        assert word in refused.err, refused


SHADOWS = ("json", "asyncio", "typing", "belugawf", "yaml", "sqlite3", "sitecustomize")


@pytest.mark.parametrize("body", ["raise RuntimeError('shadowed')\n", TAIL])
def test_modules_with_names_of_others(project: Project, body: str) -> None:
    """Modules called as the standard library's or ours are found, and stand in nobody's light."""
    for name in SHADOWS:
        text = body.replace("broken", f"{name}_workflow")
        project.write_module(name, text, prelude=False)
    project.write_module(
        "isolated",
        """
        import json


        @activity(isolation="process")
        def isolated_work() -> str:
            import statistics

            return json.dumps([statistics.mean([1])])


        @workflow
        async def in_a_child(ctx: WorkflowContext) -> str:
            return await ctx.execute_activity(isolated_work)
        """,
    )
    assert project.cli("run", "in_a_child", "--id", "c").out.strip() == "[1]"
    # Also where the shell stands in that very folder, which Python puts first for `-m`.
    script = """
        import os, sys
        sys.path[:] = [entry for entry in sys.path if entry]
        os.chdir("workflows")
        from belugawf.__main__ import run
        sys.exit(run(["--workflows", ".", "--db", "../x.db", "run", "in_a_child"]))
        """
    assert project.python(script).out.strip() == "[1]"
    if body == TAIL:
        for name in SHADOWS:
            assert project.cli("run", f"{name}_workflow").out.strip() == "mended"
