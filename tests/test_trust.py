"""What was found and not named: nothing of another user is read, run or written (FINDINGS S1)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belugawf import new_executor
from belugawf.config import load_settings
from belugawf.config.trust import Trust, fault, trusted_users
from belugawf.model.errors import UntrustedError
from tests.conformance.harness import Result
from tests.users import ADA, MALLORY, as_user, give, only_root, open_folder

MODULE = """
from pathlib import Path
from belugawf import workflow

Path("{mark}").touch()

@workflow
async def hello(ctx) -> str:
    return "hello"
"""


def status_of(mode: int, user: int = 7, group: int = 7) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, user, group, 0, 0, 0, 0))


# -- one file: a table ---------------------------------------------------------------------------

FOLDER, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK
STICKY = stat.S_ISVTX


@pytest.mark.parametrize(
    ("mode", "user", "group", "refused"),
    [
        (FILE | 0o600, 7, 7, None),
        (FILE | 0o644, 0, 0, None),
        (FILE | 0o600, 8, 7, "user ann (8)"),
        (FILE | 0o600, 9, 7, "user 9"),
        (LINK | 0o777, 7, 7, None),
        (LINK | 0o777, 8, 7, "user ann (8)"),
        (FILE | 0o666, 7, 7, "everybody"),
        (FILE | 0o602, 0, 0, "everybody"),
        (FILE | STICKY | 0o666, 7, 7, "everybody"),  # there it means nothing
        (FOLDER | 0o777, 7, 7, "everybody"),
        (FOLDER | STICKY | 0o777, 0, 0, None),
        (FOLDER | STICKY | 0o777, 8, 0, "user ann (8)"),
        (FOLDER | 0o770, 7, 7, None),  # the group of its owner alone
        (FOLDER | 0o775, 7, 50, "group staff (50)"),
        (FOLDER | 0o775, 7, 51, "group 51"),
        (FILE | 0o664, 7, 50, "group staff (50)"),
        (FOLDER | STICKY | 0o775, 7, 50, None),
        (FILE | 0o664, 0, 7, "group 7"),  # root's is another
    ],
)
def test_whose_file_it_is(
    monkeypatch: pytest.MonkeyPatch, mode: int, user: int, group: int, refused: str | None
) -> None:
    """The owner counts, then who else can write; the owner is always named."""
    names = {7: ("me", 7), 8: ("ann", 8), 0: ("root", 0)}

    def user_of(uid: int) -> Any:
        return type("User", (), dict(zip(("pw_name", "pw_gid"), names[uid], strict=True)))

    def group_of(gid: int) -> Any:
        return type("Group", (), {"gr_name": {50: "staff"}[gid]})

    monkeypatch.setattr("pwd.getpwuid", user_of)
    monkeypatch.setattr("grp.getgrgid", group_of)
    reason = fault(status_of(mode, user, group), {0, 7})
    if refused is None:
        assert reason is None
    else:
        assert reason is not None
        assert refused in reason
        assert f"user {names.get(user, (user,))[0]}" in reason


@pytest.mark.parametrize(
    ("ours", "environ", "trusted"),
    [
        (7, {}, {0, 7}),
        (0, {}, {0}),
        (0, {"SUDO_UID": "7"}, {0, 7}),
        (8, {"SUDO_UID": "7"}, {0, 8}),  # anybody can set a variable; only root became root
        (0, {"SUDO_UID": "x"}, {0}),
    ],
)
def test_who_is_trusted(
    monkeypatch: pytest.MonkeyPatch, ours: int, environ: dict[str, str], trusted: set[int]
) -> None:
    """We, root, and under sudo the user who typed it."""
    monkeypatch.setattr("os.geteuid", lambda: ours)
    assert trusted_users(environ) == trusted


# -- what others can write: in a folder of our own -------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project of ours, with a configuration, a module, a package and a database."""
    (tmp_path / ".belugawf.yaml").write_text("workflows: workflows\n")
    for folder in ("workflows/pack/__pycache__", "workflows/__pycache__", "workflows/data"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("a.py", "_helper.py", "pack/__init__.py", "pack/part.py", "data/notes.txt"):
        (tmp_path / "workflows" / file).touch()
    (tmp_path / ".belugawf" / "state.db-locks").mkdir(parents=True)
    for file in ("state.db", "state.db-wal", "state.db-journal"):
        (tmp_path / ".belugawf" / file).touch()
    return tmp_path


PLACES = [
    (".", "--config"),
    (".belugawf.yaml", "--config"),
    ("workflows", "--workflows"),
    ("workflows/a.py", "--workflows"),
    ("workflows/_helper.py", "--workflows"),
    ("workflows/__pycache__", "--workflows"),
    ("workflows/pack", "--workflows"),
    ("workflows/pack/__init__.py", "--workflows"),
    ("workflows/pack/part.py", "--workflows"),
    (".belugawf", "--db"),
    (".belugawf/state.db", "--db"),
    (".belugawf/state.db-wal", "--db"),
    (".belugawf/state.db-journal", "--db"),
    (".belugawf/state.db-locks", "--db"),
]


def test_what_is_ours_is_used(home: Path) -> None:
    """A project of ours is used, and so is one whose data folders are open to others."""
    (home / "workflows" / "data").chmod(0o777)
    assert load_settings(directory=home, environ={}).db == home / ".belugawf" / "state.db"


@pytest.mark.parametrize(("place", "flag"), PLACES)
def test_what_everybody_can_write(home: Path, place: str, flag: str) -> None:
    """Each place is refused by name, with its owner, and with both ways to use it all the same."""
    (home / place).chmod(0o777)
    with pytest.raises(UntrustedError) as refused:
        load_settings(directory=home, environ={})
    told = f"{refused.value.message} {refused.value.hint}"
    assert str(home / place) in told
    assert "everybody" in told
    assert f"({os.geteuid()})" in told
    assert f"{flag} " in told
    assert "BELUGAWF_TRUST=1" in told
    load_settings(directory=home, environ={"BELUGAWF_TRUST": "1"})
    with pytest.raises(UntrustedError):
        load_settings(directory=home, environ={"BELUGAWF_TRUST": "0"})


@pytest.mark.parametrize(("place", "flag"), PLACES)
def test_what_is_named_is_used(home: Path, place: str, flag: str) -> None:
    """The flag, or its variable, is the caller's choice, whoever can write there."""
    (home / place).chmod(0o777)
    values = {
        "--config": home / ".belugawf.yaml",
        "--workflows": home / "workflows",
        "--db": home / ".belugawf" / "state.db",
    }
    variable = f"BELUGAWF_{flag.removeprefix('--').upper()}"
    load_settings(directory=home, environ={variable: str(values[flag])})
    if flag == "--config":
        load_settings(directory=home, environ={}, config=values[flag])
    else:
        overrides = {flag.removeprefix("--"): values[flag]}
        load_settings(directory=home, environ={}, overrides=overrides)


def test_without_a_configuration(home: Path) -> None:
    """The default places beside no configuration were found as well."""
    (home / ".belugawf.yaml").unlink()
    for place in ("workflows", ".belugawf"):
        (home / place).chmod(0o777)
        with pytest.raises(UntrustedError, match=place):
            load_settings(directory=home, environ={})
        (home / place).chmod(0o700)


def test_the_default_database_of_a_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that names no database finds one, too; one that it names is its own choice."""
    (home / ".belugawf").chmod(0o777)
    monkeypatch.chdir(home)
    monkeypatch.delenv("BELUGAWF_TRUST", raising=False)
    with pytest.raises(UntrustedError):
        new_executor(workflows=[])
    new_executor(workflows=[], db=".belugawf/state.db")


def test_a_folder_for_everybody(home: Path) -> None:
    """Below a sticky folder such as /tmp, what is ours is ours."""
    home.chmod(0o1777)
    load_settings(directory=home, environ={})


def test_links(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link is followed: what it leads to counts."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (home / "workflows").rename(elsewhere / "workflows")
    (home / "workflows").symlink_to(elsewhere / "workflows")
    load_settings(directory=home, environ={})
    (elsewhere / "workflows").chmod(0o777)
    with pytest.raises(UntrustedError):
        load_settings(directory=home, environ={})


def test_nothing_is_asked_twice(home: Path) -> None:
    """Looking costs a few calls, whatever else lies in the folders."""
    for number in range(200):
        (home / "workflows" / "data" / f"{number}.txt").touch()
        (home / ".belugawf" / f"{number}.txt").touch()
    asked: list[Path] = []

    class Counting(Trust):
        def _require(self, what: str, path: Path, way: str) -> None:
            asked.append(path)

    trust = Counting({})
    trust.require_configuration(home / ".belugawf.yaml")
    trust.require_modules(home / "workflows")
    trust.require_database(home / ".belugawf" / "state.db")
    assert len(asked) == len(set(asked)) < 20


# -- across users: real processes ----------------------------------------------------------------

COMMANDS = ("status", "list", "resume", "run hello", "workflows", "worker", "signal go")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that all users can enter, with a project of MALLORY's in it, and one of ADA's."""
    with open_folder() as folder:
        for name, user in (("mallory", MALLORY), ("ada", ADA)):
            (folder / name / "workflows").mkdir(parents=True)
            (folder / name / "below").mkdir()
            text = MODULE.format(mark=folder / "tmp" / f"{name}-was-imported")
            (folder / name / "workflows" / "hello.py").write_text(text)
            give(user, folder / name)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
        yield folder


def refused(result: Result, *texts: str) -> None:
    assert result.code == 14, result
    assert result.error["code"] == "untrusted"
    told = f"{result.error['message']} {result.error['hint']}"
    for text in (*texts, "BELUGAWF_TRUST=1"):
        assert text in told


def marks(shared: Path) -> list[str]:
    return sorted(path.name for path in (shared / "tmp").iterdir())


@only_root
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_below_a_foreign_configuration(shared: Path, command: str) -> None:
    """No command uses another user's configuration: neither modules nor `db:` of it."""
    config = shared / "mallory" / ".belugawf.yaml"
    config.write_text(f"db: {shared}/tmp/stolen.db\n")
    give(MALLORY, config)
    result = as_user(ADA, shared / "mallory" / "below", *command.split(), "--json")
    refused(result, str(MALLORY), str(config), "--config")
    assert marks(shared) == []


@only_root
def test_foreign_temporal_host(shared: Path) -> None:
    """Nothing is sent to the server that another user's configuration names."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        config = shared / "mallory" / ".belugawf.yaml"
        config.write_text(f"provider: temporal\ntemporal: {{host: '127.0.0.1:{port}'}}\n")
        give(MALLORY, config)
        key = {"BELUGAWF_TEMPORAL_API_KEY": "secret"}
        result = as_user(ADA, shared / "mallory", "status", "--json", env=key)
        refused(result, str(MALLORY))
        with pytest.raises(TimeoutError):
            server.accept()


@only_root
@pytest.mark.parametrize("what", ["workflows", "workflows/hello.py", ".belugawf"])
def test_foreign_parts_of_our_project(shared: Path, what: str) -> None:
    """Modules and databases of another user are refused beside our own files, too."""
    ada = shared / "ada"
    (ada / ".belugawf").mkdir(mode=0o700)
    give(ADA, ada)
    give(MALLORY, ada / what)
    refused(as_user(ADA, ada, "run", "hello", "--json"), str(MALLORY), str(ada / what))
    assert marks(shared) == []


@only_root
def test_a_link_of_somebody_else(shared: Path) -> None:
    """A link that another user has made is theirs, although it leads to a file of ours."""
    (shared / "ada" / "other.yaml").touch()
    give(ADA, shared / "ada" / "other.yaml")
    (shared / "tmp" / ".belugawf.yaml").symlink_to(shared / "ada" / "other.yaml")
    give(MALLORY, shared / "tmp" / ".belugawf.yaml")
    refused(as_user(ADA, shared / "tmp", "status", "--json"), str(MALLORY))


@only_root
def test_a_module_dropped_into_a_sticky_folder(shared: Path) -> None:
    """In a sticky folder of modules others can't change ours, but add theirs: refused."""
    workflows = shared / "ada" / "workflows"
    workflows.chmod(0o1777)
    assert as_user(ADA, shared / "ada", "run", "hello").out == "hello\n"
    (workflows / "late.py").touch()
    give(MALLORY, workflows / "late.py")
    refused(as_user(ADA, shared / "ada", "status", "--json"), str(MALLORY), "late.py")


@only_root
def test_both_ways_out(shared: Path) -> None:
    """What is named is used, and so is all with BELUGAWF_TRUST=1."""
    config = shared / "mallory" / ".belugawf.yaml"
    config.write_text(f"db: {shared}/ada/mine.db\n")
    give(MALLORY, config)
    below = shared / "mallory" / "below"
    result = as_user(ADA, below, "--config", str(config), "run", "hello")
    assert result.out == "hello\n", result
    assert marks(shared) == ["mallory-was-imported"]
    for way in ({"BELUGAWF_CONFIG": str(config)}, {"BELUGAWF_TRUST": "1"}):
        assert as_user(ADA, below, "run", "hello", env=way).out == "hello\n"


@only_root
def test_root_and_sudo(shared: Path) -> None:
    """Root trusts only root's files, and under sudo those of the user who typed it."""
    ada = shared / "ada"
    refused(as_user(0, ada, "workflows", "--json"), str(ADA))
    assert marks(shared) == []
    result = as_user(0, ada, "workflows", "--json", env={"SUDO_UID": str(ADA)})
    assert [found["name"] for found in result.json["workflows"]] == ["hello"]
    (shared / "tmp" / "ada-was-imported").unlink()
    os.chown(ada / "workflows", 0, 0)
    result = as_user(ADA, ada, "run", "hello")
    assert result.out == "hello\n", result


@only_root
def test_doctor_says_it(shared: Path) -> None:
    """`doctor` names the owner and the ways, and looks no further."""
    (shared / "mallory" / ".belugawf.yaml").touch()
    give(MALLORY, shared / "mallory" / ".belugawf.yaml")
    result = as_user(ADA, shared / "mallory", "doctor", "--json")
    assert result.code == 14
    assert f"user {MALLORY}" in result.error["message"]
    assert marks(shared) == []
