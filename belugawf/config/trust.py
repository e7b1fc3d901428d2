"""Whether what was found may be used, or another user could have put it there.

A configuration names modules, whose code is run, a database, and the server that an API key is sent
to. What a flag or an environment variable names is the caller's own choice. But a configuration is
also looked for from the working directory upward, and the rest is looked for beside it: whoever can
write there could make anybody who works below run their code. So what is found must belong to us
or to root, and nobody else may be able to change it. (Git's `safe.directory` has the same reason.)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from belugawf.model.errors import UntrustedError
from belugawf.model.shell import quoted

TRUST_VARIABLE = "BELUGAWF_TRUST"

# What Python imports from a folder of modules.
_IMPORTED = (".py", ".pyc", ".so")


class Trust:
    """Refuses what others could have put there; nothing if `BELUGAWF_TRUST=1` is set.

    Its methods raise `UntrustedError`. What does not exist, or cannot be read, passes: using
    it will fail.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._off = environ.get(TRUST_VARIABLE) == "1" or os.name == "nt"
        self._users = frozenset() if self._off else trusted_users(environ)

    def require_configuration(self, file: Path) -> None:
        """Check a configuration that was found, and its folder.

        Whoever can rename files in that folder can make another file of ours the configuration.
        """
        way = f"--config {quoted(str(file))}, or BELUGAWF_CONFIG"
        self._require("the folder of the configuration", file.parent, way)
        self._require("the configuration", file, way)

    def require_modules(self, folder: Path) -> None:
        """Check a folder of modules that was found, and what Python would import from it."""
        if self._off:
            return
        way = f"--workflows {quoted(str(folder))}, or BELUGAWF_WORKFLOWS"
        self._require("the folder of modules", folder, way)
        for path in _importable(folder):
            self._require("the module", path, way)

    def require_database(self, db: Path) -> None:
        """Check a database that was found, the files that SQLite and we keep beside it, and their
        folder."""
        if self._off:
            return
        way = f"--db {quoted(str(db))}, or BELUGAWF_DB"
        real = Path(os.path.realpath(db))
        for folder in dict.fromkeys((db.parent, real.parent)):
            self._require("the folder of the database", folder, way)
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._require("the database", real.with_name(real.name + suffix), way)
        if real != db:
            self._require("the database", db, way)
        self._require("the lock folder", real.with_name(real.name + "-locks"), way)

    def _require(self, what: str, path: Path, way: str) -> None:
        if self._off:
            return
        for found in _stats(path):
            reason = fault(found, self._users)
            if reason is not None:
                raise UntrustedError(
                    f"{what} {str(path)!r} {reason}; it was found, not named, so it is not used",
                    hint=f"{_remedy(found, path, self._users)}if you trust it, name it: {way}; "
                    f"to trust whatever is found, as in a container: {TRUST_VARIABLE}=1",
                )


def trusted_users(environ: Mapping[str, str]) -> frozenset[int]:
    """The users whose files are as good as ours: we, root, and under sudo the one who typed it."""
    ours = os.geteuid()
    users = {0, ours}
    if ours == 0:
        with suppress(KeyError, ValueError):
            users.add(int(environ["SUDO_UID"]))
    return frozenset(users)


def fault(found: os.stat_result, users: Collection[int]) -> str | None:
    """Why a file or a folder could be somebody else's work, with its owner's name; or `None`.

    In a folder with the sticky bit, such as `/tmp`, others can't touch what is ours. Many systems
    give each user a group of their own, so the owner's primary group may write.
    """
    if found.st_uid not in users:
        return f"belongs to user {_user_name(found.st_uid)}"
    writers = _other_writers(found)
    if writers is None:
        return None
    return f"belongs to user {_user_name(found.st_uid)}, and {writers} can write to it"


def _other_writers(found: os.stat_result) -> str | None:
    if stat.S_ISLNK(found.st_mode):  # the mode of a link means nothing
        return None
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return None
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and found.st_gid != _primary_group(found.st_uid):
        return f"group {_group_name(found.st_gid)}"
    return None


def _remedy(found: os.stat_result, path: Path, users: Collection[int]) -> str:
    """How to take the others' permission away, if that is what is wrong."""
    if found.st_uid not in users:
        return ""
    return f"take that away: chmod go-w {quoted(str(path))}; or "


def _stats(path: Path) -> Iterator[os.stat_result]:
    """What is there: for a link, both the link and what it leads to."""
    try:
        found = path.lstat()
        yield found
        if stat.S_ISLNK(found.st_mode):
            yield path.stat()
    except OSError:
        return


def _importable(folder: Path) -> Iterator[Path]:
    """The modules and packages of a folder, and what is in the packages."""
    folders = [folder]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name == "__pycache__" or entry.name.endswith(_IMPORTED):
                yield path
            elif entry.is_dir() and (path / "__init__.py").exists():
                yield path
                if not entry.is_symlink():
                    folders.append(path)


# `pwd` and `grp` are needed only where something is unusual.


def _primary_group(user: int) -> int:
    import pwd

    try:
        return pwd.getpwuid(user).pw_gid
    except KeyError:  # as for a container's user without a name
        return os.getegid() if user == os.geteuid() else -1


def _user_name(user: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(user).pw_name} ({user})"
    except KeyError:
        return str(user)


def _group_name(group: int) -> str:
    import grp

    try:
        return f"{grp.getgrgid(group).gr_name} ({group})"
    except KeyError:
        return str(group)
