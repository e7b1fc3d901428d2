"""The configuration: what wins, what is refused and where, and that the documents are true."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from belugawf.config import (
    KEYS,
    ConfigFileError,
    LoggingSettings,
    Settings,
    TemporalSettings,
    TlsFiles,
    load_settings,
    temporal_settings,
)
from belugawf.config.keys import Key
from belugawf.model.errors import ConfigurationError
from belugawf.model.policy import ActivityDefaults, RetryPolicy

ROOT = Path(__file__).parents[1]
SECRET = "sk-hunter2-hunter2"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory; nothing above it holds a configuration."""
    return tmp_path


def load(directory: Path, text: str | bytes | None = None, **more: Any) -> Settings:
    """The settings of a directory whose file has this text."""
    if text is not None:
        file = directory / ".belugawf.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings(directory=directory, **({"environ": {}} | more))


def problems(directory: Path, text: str | bytes, **more: Any) -> list[str]:
    """What is wrong with a file, without its name."""
    with pytest.raises(ConfigFileError) as caught:
        load(directory, text, **more)
    name = str(directory / ".belugawf.yaml") + ":"
    return [str(problem).removeprefix(name) for problem in caught.value.problems]


# -- where values come from ------------------------------------------------------------------------


def test_no_file(home: Path) -> None:
    """Without a file the defaults are in force, beside the working directory."""
    settings = load(home)
    assert settings == Settings(
        workflows=home / "workflows",
        db=home / ".belugawf" / "state.db",
        sources=dict.fromkeys((key.name for key in KEYS), "default"),
    )
    assert settings.source is None


def test_no_file_reads_no_yaml(home: Path) -> None:
    """Where there is no file, PyYAML is not even imported."""
    script = (
        "import sys; from belugawf.config import load_settings; load_settings(environ={});"
        "print([m for m in ('yaml', 'sqlite3', 'asyncio', 'difflib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=home, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n", "{}", "\ufeff"])
def test_empty_file(home: Path, text: str) -> None:
    """An empty file is a configuration: the defaults, beside it."""
    settings = load(home, text)
    assert settings.source == home / ".belugawf.yaml"
    (home / ".belugawf.yaml").unlink()
    assert dataclasses.replace(settings, source=None) == load(home)


def test_found_upward(home: Path) -> None:
    """From a folder below, the file is found, and its paths are relative to it."""
    (home / "a" / "b").mkdir(parents=True)
    load(home, "db: data/x.db\n")
    settings = load(home / "a" / "b")
    assert settings.source == home / ".belugawf.yaml"
    assert settings.db == home / "data" / "x.db"
    assert settings.workflows == home / "workflows"


def test_nearest_file_wins(home: Path) -> None:
    """Of two files on the way up the nearer one is read, and only that."""
    (home / "a").mkdir()
    load(home, "max_crashes: 7\nprovider: far\n")
    assert load(home / "a", "provider: near\n").max_crashes == 3


def test_precedence(home: Path) -> None:
    """Flag before environment before file before default, each relative to its own place."""
    (home / "sub").mkdir()
    load(home, "provider: from-file\ndb: file.db\nworkflows: file\nmax_crashes: 5\n")
    settings = load_settings(
        directory=home / "sub",
        overrides={"db": Path("flag.db"), "provider": None},
        environ={"BELUGAWF_DB": "env.db", "BELUGAWF_WORKFLOWS": "env", "BELUGAWF_PROVIDER": ""},
    )
    assert settings.db == home / "sub" / "flag.db"
    assert settings.workflows == home / "sub" / "env"
    assert settings.provider == "from-file"
    said = {name: source for name, source in settings.sources.items() if source != "default"}
    assert said == {
        "db": "flag",
        "workflows": "environment",
        "provider": "file",
        "max_crashes": "file",
    }


def test_temporal_environment(home: Path) -> None:
    """Each Temporal variable sets its key; the API key stands in no repr."""
    settings = load(
        home,
        environ={
            "BELUGAWF_TEMPORAL_HOST": "h:1",
            "BELUGAWF_TEMPORAL_NAMESPACE": "n",
            "BELUGAWF_TEMPORAL_TASK_QUEUE": "q",
            "BELUGAWF_TEMPORAL_API_KEY": SECRET,
        },
    )
    assert settings.temporal == TemporalSettings(
        host="h:1", namespace="n", task_queue="q", api_key=SECRET
    )
    assert SECRET not in repr(settings)


def test_named_file(home: Path) -> None:
    """--config and BELUGAWF_CONFIG name the file, relative to the directory; the flag wins."""
    (home / "conf").mkdir()
    (home / "conf" / "one.yaml").write_text("provider: one\n")
    (home / "two.yaml").write_text("provider: two\n")
    environ = {"BELUGAWF_CONFIG": "two.yaml"}
    assert load(home, environ=environ).provider == "two"
    settings = load(home, environ=environ, config=Path("conf/one.yaml"))
    assert settings.provider == "one"
    assert settings.workflows == home / "conf" / "workflows"


def test_missing_places(home: Path) -> None:
    """A named file or directory that does not exist is an error that names it."""
    with pytest.raises(ConfigurationError, match=r"no configuration file '.*/x\.yaml'"):
        load(home, config=Path("x.yaml"))
    with pytest.raises(ConfigurationError, match="is a folder"):
        load(home, environ={"BELUGAWF_CONFIG": "."})
    with pytest.raises(ConfigurationError, match="no directory"):
        load_settings(directory=home / "nowhere", environ={})


def test_unreadable_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is an error with the system's reason."""

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    load(home, "")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match=r"cannot read .*: Permission denied"):
        load(home)


# -- values ----------------------------------------------------------------------------------------


def test_every_value(home: Path) -> None:
    """A file that says everything is in force as it says."""
    settings = load(
        home,
        """
provider: temporal
workflows: /srv/flows
db: ../x.db
default_workflow: research
durability: normal
defaults:
  activity_timeout: 10m
  retry: {max_attempts: 0, initial_delay: 500ms, backoff_coefficient: 3, max_delay: 1h,
          jitter: 0.5, non_retryable: [ValueError, KeyError]}
resume: {max_time: 5m}
max_crashes: 0
payload_limit: 500KiB
worker: {concurrency: 7, threads: 8}
logging: {level: DEBUG, keep: 0, keep_for: 2h}
temporal: {host: "h:7233", namespace: n, task_queue: q, api_key: env:MY_KEY,
           tls: {ca: ca.pem, cert: c.pem, key: k.pem}}
""",
        environ={"MY_KEY": SECRET},
    )
    assert set(settings.sources.values()) <= {"file", "default"}
    assert dataclasses.replace(settings, sources={}) == Settings(
        provider="temporal",
        workflows=Path("/srv/flows"),
        db=home / ".." / "x.db",
        default_workflow="research",
        durability="normal",
        activity_defaults=ActivityDefaults(
            retry=RetryPolicy(
                max_attempts=0,
                initial_delay="500ms",
                backoff_coefficient=3,
                max_delay="1h",
                jitter=0.5,
                non_retryable=["ValueError", "KeyError"],
            ),
            timeout=timedelta(minutes=10),
        ),
        resume_max_time=timedelta(minutes=5),
        max_crashes=0,
        payload_limit=500 * 1024,
        worker_concurrency=7,
        threads=8,
        logging=LoggingSettings(level="debug", keep=0, keep_for=timedelta(hours=2)),
        temporal=TemporalSettings(
            host="h:7233",
            namespace="n",
            task_queue="q",
            api_key=SECRET,
            tls=TlsFiles(ca=home / "ca.pem", cert=home / "c.pem", key=home / "k.pem"),
        ),
        source=home / ".belugawf.yaml",
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("2MiB", 2 << 20), ("1 KiB", 1024), ("4096", 4096), ("4096B", 4096), ('"1MiB"', 1 << 20)],
)
def test_sizes(home: Path, text: str, size: int) -> None:
    """A size is a number of bytes, or has a unit."""
    assert load(home, f"payload_limit: {text}").payload_limit == size


def test_retry_with_one_key(home: Path) -> None:
    """One key under `retry` makes a policy; none, or only empty ones, make none."""
    assert load(home, "defaults: {retry: {jitter: 0.1}}").activity_defaults.retry == RetryPolicy(
        jitter=0.1
    )
    assert load(home, "defaults: {retry: {jitter: }}").activity_defaults.retry is None
    assert load(home, "defaults:\n  retry:\n").activity_defaults.retry is None


def test_home_in_paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may begin with ~."""
    monkeypatch.setenv("HOME", str(home))
    assert load(home, "db: ~/x.db").db == home / "x.db"
    assert problems(home, "db: ~nobody-has-this-name/x.db")[0].startswith(
        "1:5: db: expected a path"
    )


def test_aliases(home: Path) -> None:
    """An anchor and its alias are one value."""
    settings = load(home, "defaults: {activity_timeout: &t 5m}\nresume: {max_time: *t}\n")
    assert settings.resume_max_time == settings.activity_defaults.timeout == timedelta(minutes=5)


def test_tls(home: Path) -> None:
    """`tls` is a boolean or files; what a flag says wins over the file's files."""
    assert load(home, "temporal: {tls: true}").temporal.tls is True
    text = "temporal: {tls: {ca: x.pem}}"
    assert load(home, text).temporal.tls == TlsFiles(ca=home / "x.pem")
    assert load(home, text, overrides={"temporal.tls": False}).temporal.tls is False


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("worflows: x", "1:1: unknown key 'worflows'; did you mean workflows?"),
        ("defaults:\n  retry: {max_attemps: 3}",
         "2:11: unknown key 'max_attemps'; did you mean max_attempts?"),
        ("resume: {zzz: 1}", "1:10: unknown key 'zzz'; known here: max_time"),
        ("db: a\n\ndb: b", "3:1: duplicate key 'db'; it stands in line 1 already"),
        ("- a\n- b", "1:1: the file: expected keys with values, found a list"),
        ("defaults: 10m", "1:11: defaults: expected keys with values, found a single value"),
        ("? [a]\n: 1", "1:3: expected a key, found a list"),
        ("<<: {db: x}", "1:1: unknown key '<<'; known here: "),
        ("provider: 12", "1:11: provider: expected a text, found 12; put it in quotes"),
        ("provider: ''", "1:11: provider: expected a text, found an empty one"),
        ("workflows: [a]", "1:12: workflows: expected a text, found a list"),
        ("db: yes", "1:5: db: expected a text, found yes; put it in quotes"),
        ("durability: fast", "1:13: durability: expected full or normal, found 'fast'"),
        ("defaults: {activity_timeout: 1:30}",
         "1:30: defaults.activity_timeout: expected a duration with units such as 90s, 10m or "
         "2h30m, found 1:30, which YAML reads as the number 90"),
        ("defaults: {activity_timeout: 90}",
         "1:30: defaults.activity_timeout: expected a duration with units such as 90s, 10m or "
         "2h30m, found 90"),
        ("resume: {max_time: soon}", "1:20: resume.max_time: 'soon' isn't a duration; write it"),
        ("resume: {max_time: 0s}", "1:20: resume.max_time: expected a duration of more than"),
        ("resume: {max_time: true}", "1:20: resume.max_time: expected a duration such as 10m, "
         "found true"),
        ("max_crashes: -1", "1:14: max_crashes: expected a whole number from 0 to 1000000, "
         "found -1"),
        ("max_crashes: 3.0", "1:14: max_crashes: expected a whole number"),
        ("max_crashes: true", "1:14: max_crashes: expected a whole number"),
        ("max_crashes: 010", "1:14: max_crashes: expected a whole number from 0 to 1000000, "
         "found 010"),
        ("max_crashes: '3'", "1:14: max_crashes: expected a whole number from 0 to 1000000, "
         "found '3'"),
        ("worker: {threads: 0}", "1:19: worker.threads: expected a whole number from 1 to"),
        ("defaults: {retry: {jitter: 2}}", "1:28: defaults.retry.jitter: expected a number from 0"),
        ("defaults: {retry: {jitter: .nan}}", "1:28: defaults.retry.jitter: expected a number"),
        ("defaults: {retry: {backoff_coefficient: 0.5}}",
         "1:41: defaults.retry.backoff_coefficient: expected a number from 1"),
        ("defaults: {retry: {non_retryable: ValueError}}",
         "1:35: defaults.retry.non_retryable: expected a list of names"),
        ("defaults: {retry: {non_retryable: [1]}}",
         "1:35: defaults.retry.non_retryable: expected a list of names"),
        ("defaults: {retry: {non_retryable: [[a]]}}",
         "1:35: defaults.retry.non_retryable: expected a list of plain values"),
        ("payload_limit: 2MB", "1:16: payload_limit: expected a size such as 2MiB"),
        ("payload_limit: 12", "1:16: payload_limit: expected a size from 1KiB to 512MiB"),
        ("payload_limit: 9GiB", "1:16: payload_limit: expected a size from 1KiB to 512MiB"),
        ("payload_limit: 1:30", "1:16: payload_limit: expected a size such as 2MiB"),
        ("payload_limit: {a: 1}", "1:16: payload_limit: expected a size such as 2MiB, 500KiB or "
         "a number of bytes, found a mapping"),
        ("temporal: {tls: 1}", "1:17: temporal.tls: expected true or false, found 1"),
        ("temporal: {tls: 'true'}", "1:17: temporal.tls: expected true or false, found 'true'"),
        ("redact: [' ']", "1:9: redact: expected a list of key names such as"),
        (f"redact: {[*'k' * 101]}", "1:9: redact: expected at most 100 key names, found 101"),
        ("temporal: {tls: {cert: x}}", "1:24: temporal.tls.cert: cert and key belong together"),
        ("db: !!python/object/apply:os.system [ls]", "1:5: db: the tag '!!python/object/apply:"),
        ("db: !!int abc", "1:5: db: the value does not fit its tag !!int"),
        ("db: !own x", "1:5: db: the tag '!own' has no meaning here"),
        ("provider: 2025-01-01\ndb: 'a\0b'", "2:7: this isn't valid YAML: "),
        ("db: [a\nx: 1", "2:2: this isn't valid YAML: "),
        ("a: b: c", "1:5: this isn't valid YAML: mapping values are not allowed here"),
        ("\tdb: x", "1:1: this isn't valid YAML: found character '\\t'"),
        ("db: a\n---\ndb: b", "2:1: this isn't valid YAML: "),
        ("db: *x", "1:5: this isn't valid YAML: found undefined alias"),
        ("db: &x [*x]", "1:5: db: expected a list of plain values"),
        ("[" * 5000, "1:1: the file is nested too deep for a configuration"),
        (b"provider: x\ndb: \xff\xfe", "2:5: the file is not UTF-8 text"),
        (b"#" * ((1 << 16) + 1), "1:1: the file is over 64 KiB"),
        ("max_crashes: " + "9" * 5000, "1:14: max_crashes: "),
        ("max_crashes: " + "9" * 400, "1:14: max_crashes: expected a whole number"),
    ],
)  # fmt: skip
def test_refused(home: Path, text: str | bytes, problem: str) -> None:
    """What is wrong in a file is named with line and column."""
    found = problems(home, text)
    assert len(found) == 1
    assert found[0].startswith(problem)
    assert len(found[0]) < 400


def test_all_at_once(home: Path) -> None:
    """Everything that is wrong is reported at once, in the order of the file."""
    text = "db: 1\nworflows: x\nresume: {max_time: 5}\ndb: x\n"
    assert [p.split(" ")[0] for p in problems(home, text)] == ["1:5:", "2:1:", "3:20:", "4:1:"]
    text = "temporal: {tls: {cert: c.pem}}\nworflows: x\n"
    assert [p.split(" ")[0] for p in problems(home, text)] == ["1:24:", "2:1:"]


def test_problems_of_flags_and_variables(home: Path) -> None:
    """A wrong flag and a wrong variable are named, together with what is wrong in the file."""
    with pytest.raises(ConfigFileError) as caught:
        load(
            home,
            "dbx: 1",
            overrides={"max_crashes": "x", "dbx": 1},
            environ={"BELUGAWF_DB": "a\0b"},
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "BELUGAWF_DB: db: expected a path, found one with a NUL character" in lines
    assert "dbx: unknown key 'dbx'; did you mean db?" in lines
    assert caught.value.exit_code == 14
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", [f"temporal: {{api_key: {SECRET}}}", f"temporal: {{api_key: ['{SECRET}']}}",
             f"temporal:\n  api_key: !x {SECRET}\n", f"temporal: {{api_key: 'env:{SECRET}'}}"]
)  # fmt: skip
def test_api_key_in_the_file(home: Path, text: str) -> None:
    """A key written into the file is refused, and not shown."""
    (problem,) = problems(home, text)
    assert "temporal.api_key: " in problem
    assert SECRET not in problem


def test_api_key_of_another_type(home: Path) -> None:
    """A key that is no text, from Python, is refused, and not shown."""
    with pytest.raises(ConfigFileError, match="expected a text, found another type") as caught:
        load(home, overrides={"temporal.api_key": SECRET.encode()})
    assert SECRET not in str(caught.value)


def test_api_key_variable(home: Path) -> None:
    """Only the Temporal provider needs the variable; a variable of ours wins over it."""
    text = "provider: %s\ntemporal: {api_key: 'env:KEY'}"
    assert load(home, text % "default").temporal.api_key is None
    assert load(home, text % "temporal", environ={"KEY": "k"}).temporal.api_key == "k"
    environ = {"BELUGAWF_TEMPORAL_API_KEY": "ours"}
    assert load(home, text % "temporal", environ=environ).temporal.api_key == "ours"
    assert problems(home, text % "temporal") == [
        "2:21: temporal.api_key: the environment variable KEY is not set"
    ]


def test_alias_bomb(home: Path) -> None:
    """Aliases that stand for billions of values cost nothing."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    assert len(problems(home, "\n".join(lines) + "\ndb: *a39\n")) == 41


@given(st.text(st.sampled_from("db: {}[]\n-&*!'\"#|>?,~10amxyé\x07\t"), max_size=40))
def test_any_text(text: str) -> None:
    """Whatever a file holds: settings, or a ConfigurationError."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            load(Path(folder), text)
        except ConfigFileError as error:
            assert all(p.line and p.column for p in error.problems)


# -- the documents ---------------------------------------------------------------------------------


def test_temporals_own_variables(home: Path) -> None:
    """What Temporal's tools are told counts, after belugawf's variables and before the file."""
    text = "temporal: {host: 'file:1', namespace: file, tls: {ca: ca.pem}}\n"
    environ = {
        "TEMPORAL_ADDRESS": "theirs:1",
        "TEMPORAL_NAMESPACE": "theirs",
        "BELUGAWF_TEMPORAL_NAMESPACE": "ours",
        "TEMPORAL_API_KEY": "secret",
        "TEMPORAL_TLS_CLIENT_CERT_PATH": "client.pem",
        "TEMPORAL_TLS_CLIENT_KEY_DATA": "PEM",
        "TEMPORAL_TLS_SERVER_NAME": "cluster",
    }
    settings = load(home, text, environ=environ).temporal
    assert (settings.host, settings.namespace) == ("theirs:1", "ours")
    assert settings.api_key == "secret"
    assert settings.tls == TlsFiles(
        ca=home / "ca.pem", cert=home / "client.pem", key=b"PEM", server_name="cluster"
    )
    assert "secret" not in repr(settings)
    assert "PEM" not in repr(settings)


def test_pem_in_the_environment(home: Path) -> None:
    """PEM in a variable counts after the variable with its path, and before the file."""
    text = "temporal: {tls: {ca: ca.pem, cert: file.pem, key: file.key}}\n"
    environ = {
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH": "path.pem",
        "TEMPORAL_TLS_SERVER_CA_CERT_DATA": "CA",
        "TEMPORAL_TLS_CLIENT_CERT_DATA": "CERT",
    }
    settings = load(home, text, environ=environ)
    assert settings.temporal.tls == TlsFiles(
        ca=home / "path.pem", cert=b"CERT", key=home / "file.key"
    )
    assert settings.sources["temporal.tls.cert"] == "environment"
    file = (home / ".belugawf.yaml").rename(home / "its_name_ends_with_DATA")
    assert load(home, config=file).temporal.tls == TlsFiles(
        ca=home / "ca.pem", cert=home / "file.pem", key=home / "file.key"
    )
    assert problems(home, "", environ={"TEMPORAL_TLS_CLIENT_KEY_DATA": SECRET}) == [
        "TEMPORAL_TLS_CLIENT_KEY_DATA: temporal.tls.key: cert and key belong together: "
        "give both or none"
    ]


@pytest.mark.parametrize(("text", "tls"), [("true", True), ("1", True), ("false", False)])
def test_temporal_tls_variable(home: Path, text: str, tls: bool) -> None:
    """TEMPORAL_TLS is a switch."""
    assert load(home, "", environ={"TEMPORAL_TLS": text}).temporal.tls is tls
    assert "TEMPORAL_TLS: temporal.tls: expected true or false" in "\n".join(
        problems(home, "", environ={"TEMPORAL_TLS": "perhaps"})
    )


def test_temporal_by_the_environment_alone() -> None:
    """Without a file, only the variables of Temporal are read."""
    environ = {"TEMPORAL_ADDRESS": "h:1", "BELUGAWF_DB": "a\0b"}
    assert temporal_settings(environ) == TemporalSettings(host="h:1")
    with pytest.raises(ConfigFileError, match=r"TEMPORAL_TLS: temporal\.tls: "):
        temporal_settings({"TEMPORAL_TLS": "perhaps"})


def _doc_rows() -> dict[str, list[str]]:
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip().strip("`") for cell in row] for row in rows}


def _own_variable(key: Key) -> str:
    return " ".join(name for name in key.variables if name.startswith("BELUGAWF_"))


def test_docs_list_every_key() -> None:
    """docs/configuration.md has one row for each key, with its default and its variable."""
    assert {name: (row[1], row[2]) for name, row in _doc_rows().items()} == {
        key.name: (key.default, _own_variable(key)) for key in KEYS
    }


def test_docs_show_a_true_message(home: Path) -> None:
    """The messages that the page shows are the ones that come."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    shown = re.findall(r"^/home/me/project/\.belugawf\.yaml:(.*)$", text, re.MULTILINE)
    lines = "provider: default\nworflows: x\n\ndefaults:\n  activity_timeout: 1:30\n"
    assert problems(home, lines) == shown


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else {
            prefix + name: value
        }  # fmt: skip
    return flat


def test_example_lists_every_key() -> None:
    """The example has every key that exists, and no other; TLS files stand in a comment."""
    text = (ROOT / ".belugawf.yaml.example").read_text()
    keys = set(_dotted(yaml.safe_load(text)))
    commented = {f"temporal.tls.{n}" for n in re.findall(r"#     (\w+): ", text)}
    assert keys | commented == {key.name for key in KEYS}
    for key in KEYS:
        if variable := _own_variable(key):
            assert f"# Environment: {variable}" in text


def test_example_is_the_default(home: Path) -> None:
    """The example, used as it is, changes nothing."""
    settings = load(home, (ROOT / ".belugawf.yaml.example").read_text())
    (home / ".belugawf.yaml").unlink()
    assert dataclasses.replace(settings, source=None, sources={}) == dataclasses.replace(
        load(home), sources={}
    )


def test_example_shows_the_defaults() -> None:
    """What the example shows, or has in the comment beside `null`, is the default of the code."""
    lines = (ROOT / ".belugawf.yaml.example").read_text().splitlines()
    shown = {}
    for line in lines:
        found = re.fullmatch(r" *(\w+): (.*?)(?: +# (.*))?", line)
        if found and not line.lstrip().startswith("#"):
            value = found[3] if found[2] == "null" and found[3] else found[2]
            shown[found[1]] = "none" if value == "null" else value
    expected = {key.name.rsplit(".", 1)[-1]: key.default for key in KEYS}
    for name in ("ca", "cert", "key", "server_name"):
        del expected[name]
    assert shown == expected


def test_defaults_are_those_of_the_code(home: Path) -> None:
    """Each default that the documents show, said in a file, is what is in force without one."""
    policy = RetryPolicy()
    for key in KEYS:
        if key.default == "none" or " x " in key.default:
            continue
        section, _, name = key.name.rpartition(".")
        text = f"{name}: {key.default}"
        for part in reversed(section.split(".") if section else []):
            text = f"{part}: {{{text}}}"
        settings = load(home, text)
        assert settings.sources[key.name] == "file"
        retry = settings.activity_defaults.retry
        assert retry is None or retry == policy
        plain = dataclasses.replace(
            settings, source=None, sources={}, activity_defaults=ActivityDefaults()
        )
        (home / ".belugawf.yaml").unlink()
        assert plain == dataclasses.replace(load(home), sources={})


def test_not_more_than_a_screen(home: Path) -> None:
    """A file with thousands of mistakes is told of in a few lines, long names are cut."""
    text = "".join(f"{'k' * 500}{number}: 1\n" for number in range(100))
    with pytest.raises(ConfigFileError) as caught:
        load(home, text)
    assert len(caught.value.problems) == 100
    lines = str(caught.value).splitlines()
    assert lines[-1] == "and 70 more"
    assert len(lines) == 31
    assert max(map(len, lines)) < 500
