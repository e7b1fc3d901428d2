"""`redact:` in the configuration: what the command line shows, and what it hands out."""

from __future__ import annotations

import pytest

from tests.conformance.harness import FORKED, Project, Result

MODULE = """
    @activity
    def call(settings: dict, key: str) -> dict:
        logging.warning("calling with %s", key)
        logging.warning("this does not fit: %d %d", key)
        return {"session": {"Password": "pass-99999", "n": 1}, "echo": key}


    @activity
    def refuse(settings: dict) -> str:
        raise ValueError(f"refused {settings['api_token']}; password: hunter22")


    @activity(isolation="process")
    def call_apart(settings: dict, key: str) -> str:
        logging.warning("calling apart with %s", key)
        return key


    @activity(isolation="process")
    def call_bare(key: str) -> str:
        # Nothing that it is given says what it is. FINDINGS S3
        logging.warning("calling bare with %s", key)
        return key


    @workflow
    async def calling(ctx: WorkflowContext, settings: dict) -> dict:
        ctx.set_progress(f"with {settings['api_token']}")
        ctx.set_query("settings", lambda: settings)
        answer = await ctx.execute_activity(call, settings, settings["api_token"])
        await ctx.execute_activity(call_apart, settings, settings["api_token"])
        await ctx.execute_activity(call_bare, settings["api_token"])
        await ctx.wait_for_signal("go", prompt=f"Is {settings['api_token']} right?")
        return answer


    @workflow
    async def refused(ctx: WorkflowContext, settings: dict) -> str:
        try:
            return await ctx.execute_activity(refuse, settings)
        except ActivityError as error:
            logging.getLogger("mine").error("it failed", exc_info=True)
            raise
"""
SECRETS = ("tok-12345", "pass-99999", "hunter22", "lab-555")
INPUT = '{"api_token": "tok-12345"}'


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("redacted"), FORKED)
    prepare(project)
    return project


def prepare(project: Project) -> None:
    """Write the workflows that have secrets, and say which keys have them."""
    project.write_module("secrets_of_mine", MODULE)
    project.configure('redact: [password, "*TOKEN*"]\n')


def clean(result: Result) -> Result:
    """The result; no secret in it, and that something was masked."""
    for secret in SECRETS:
        assert secret not in result.out + result.err, result
    return result


def test_what_is_shown(project: Project) -> None:
    """Looking shows no secret, as text and as JSON; the result is the data itself."""
    check_what_is_shown(project)


def test_failures(project: Project) -> None:
    """Errors, tracebacks and log lines, of the run itself and of whoever asks later."""
    assert "it failed" in check_failures(project).err


def test_who_drives_has_read_it(project: Project) -> None:
    """A worker or `resume`, which shows no run, logs nothing of what was in one."""
    project.cli("run", "calling", "--id", "c", "-i", INPUT, "-d")
    project.cli("run", "refused", "--id", "r", "-i", INPUT, "-d")
    said = clean(project.cli("resume", check=None)).err
    assert "calling with ***" in said
    assert "calling apart with ***" in said
    assert "calling bare with ***" in said
    assert "ValueError: refused ***; password: ***" in said


def check_what_is_shown(project: Project) -> None:
    """See `test_what_is_shown`; for any provider."""
    clean(project.cli("run", "calling", "--id", "c", "-i", INPUT, "--label", "password=lab-555"))
    for command in (
        ("status",),
        ("status", "c"),
        ("waiting",),
        ("list",),
        ("history", "c"),
        ("history", "c", "--full"),
        ("query", "c", "waiting"),
        ("query", "c", "settings"),
    ):
        clean(project.cli(*command))
        clean(project.cli(*command, "--json"))
    assert project.cli("query", "c", "settings", "--json").json == {"api_token": "***"}
    assert project.cli("status", "c", "--json").json["input"] == {"api_token": "***"}
    assert project.cli("list", "--label", "password=lab-555", "--json").json
    clean(project.cli("signal", "later", "c", "--no-resume", "--json"))
    clean(project.cli("signal", "go", "c", "--payload", "null", "--json"))
    whole = {"session": {"Password": "pass-99999", "n": 1}, "echo": "tok-12345"}
    assert project.cli("result", "c", "--json").json == whole
    assert project.cli("status", "c", "--json").json["result"] == {
        "session": {"Password": "***", "n": 1},
        "echo": "***",
    }


def check_failures(project: Project) -> Result:
    """See `test_failures`; for any provider. What `run` said."""
    failed = project.cli("run", "refused", "--id", "r", "-i", INPUT, check=3)
    assert "ValueError: refused ***" in clean(failed).err
    for command in (("status", "r"), ("history", "r", "--full"), ("list",)):
        clean(project.cli(*command))
        clean(project.cli(*command, "--json"))
    clean(project.cli("result", "r", check=3))
    error = clean(project.cli("result", "r", "--json", check=3)).error
    assert error["run"]["input"] == {"api_token": "***"}
    return failed


def test_run_prints_the_result(project: Project) -> None:
    """`run` prints what `result` would; its JSON is a look at the run, and masked."""
    project.write_module(
        "plain",
        """
        @workflow
        async def plain(ctx: WorkflowContext, settings: dict) -> dict:
            return settings
        """,
    )
    assert "tok-12345" in project.cli("run", "plain", "-i", INPUT).out
    shown = clean(project.cli("run", "plain", "-i", INPUT, "--json"))
    assert shown.json["result"] == {"api_token": "***"}


def test_a_run_anew(project: Project) -> None:
    """It is given the data themselves, and shows none of them."""
    project.cli("run", "calling", "--id", "c", "-i", INPUT)
    clean(project.cli("rerun", "c", "--json"))
    clean(project.cli("signal", "go", "c-2", "--payload", "null", "--json"))
    assert project.cli("result", "c-2", "--json").json["echo"] == "tok-12345"


def test_without_redact(project: Project) -> None:
    """Nothing is masked unless it is asked for, and what is stored is as it was."""
    project.cli("run", "calling", "--id", "c", "-i", INPUT)
    project.configure("")
    assert project.cli("status", "c", "--json").json["input"] == {"api_token": "tok-12345"}


def test_what_was_typed_wrong(project: Project) -> None:
    """No payload stands in the message about it, with `redact` or without."""
    for flags in (
        ("-a", "hunter22"),
        ("-a", "settings=hunter22"),
        ("-i", "hunter22"),
        ("-i", '{"a": "hunter22"'),
        ("-i", '["hunter22"]'),
    ):
        for form in ((), ("--json",)):
            refused = project.cli("run", "calling", *flags, *form, check=2)
            assert "hunter22" not in refused.out + refused.err
    project.cli("run", "calling", "--id", "c", "-i", INPUT)
    for flags in (("--payload", "hunter22"), ("--payload", '{"a": hunter22}')):
        refused = project.cli("signal", "go", "c", *flags, check=2)
        assert "hunter22" not in refused.out + refused.err


def test_no_locals(project: Project) -> None:
    """A traceback of user code, and one of ours, shows lines of code and no values."""
    project.configure("")
    project.write_module(
        "local",
        """
        @workflow
        async def local(ctx: WorkflowContext, text: str) -> str:
            secret = text * 2
            raise RuntimeError("stop")
        """,
    )
    failed = project.cli("run", "local", "-i", "hunter22", "-v", "--id", "l", check=3)
    assert "RuntimeError: stop" in failed.err
    assert "hunter22" not in failed.err
    assert "hunter22" not in str(project.status("l")["error"])


def test_patterns_that_match_too_much(project: Project) -> None:
    """A pattern that matches words of ours hides them from people, and leaves the JSON one line."""
    project.configure('redact: ["*"]\n')
    refused = project.cli("status", "nobody", "--json", check=10)
    assert (refused.error["code"], refused.error["exit_code"]) == ("run_not_found", 10)
    project.cli("run", "calling", "--id", "c", "-i", INPUT)
    shown = clean(project.cli("status", "c", "--json")).json
    assert (shown["workflow_id"], shown["input"]) == ("c", {"api_token": "***"})
