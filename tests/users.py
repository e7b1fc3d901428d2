"""Commands as another user: really with another user id, in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.harness import Result

ROOT = Path(__file__).parents[1]
# Users without a name; their primary group is taken to be the process's own.
ADA, MALLORY = 61_001, 61_002
NOTHING: Mapping[str, str] = {}

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")

# Imports come first: that user may not be allowed to read what is being tested.
_COMMAND = """
import codecs, os, sys
from pathlib import Path
from tests.forking import become, import_everything
import_everything()
import pwd, grp
codecs.lookup("utf-8-sig")
user, folder, out, err = int(sys.argv[1]), *map(Path, sys.argv[2:5])
os.umask(0o022)

def prepare():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)

become(sys.argv[5:], cwd=folder, stdin=None, stdout=out, stderr=err, prepare=prepare)
"""


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter and read, and only we can write."""
    folder = Path(tempfile.mkdtemp(prefix="bw"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_user(user: int, folder: Path, *args: str, env: Mapping[str, str] = NOTHING) -> Result:
    """Run `belugawf ARGS` in `folder` as `user`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BELUGAWF_", "SUDO_"))}
    with tempfile.TemporaryDirectory() as answers:
        out, err = Path(answers) / "out", Path(answers) / "err"
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND, str(user), *map(str, (folder, out, err)), *args],
            cwd=ROOT,
            env={**kept, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nowhere", **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == "", done.stderr
        return Result(args, done.returncode, out.read_text(), err.read_text())


def give(user: int, *paths: Path) -> None:
    """Make files and folders, with all that is in them, those of a user."""
    for path in paths:
        for one in [path, *path.rglob("*")] if path.is_dir() else [path]:
            os.chown(one, user, user, follow_symlinks=False)
