"""A shim under SQLite that records what it asks of the disk, in this process.

SQLite reaches files through a VFS, a table of C functions, and libsqlite3 lets anybody register
another one. Ours is the standard one in which a few functions are replaced, and it becomes the
default: every connection that is opened from then on is recorded, whoever opens it.

The life of a file: `xOpen` calls the standard one, which leaves a pointer to the file's methods in
it. We exchange that pointer for a copy of the table in which write, truncate, sync and close are
ours: each records, then calls the original. `-shm` files do not come this way; they are memory.

SQLite syncs folders on its own, inside `xSync` and `xDelete`. That is not assumed but seen:
through `openDirectory`, a system call that the standard VFS lets tests replace. Folders that Python
makes and syncs are seen by replacing `os.mkdir` and `os.fsync`.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

from tests.powercut.record import (
    Create,
    Delete,
    Recorder,
    SyncEnded,
    SyncStarted,
    Truncate,
    Write,
)

MISSING = "needs a sqlite3 module on a shared libsqlite3, to record what SQLite asks of the disk"

_NAME = "recording"

# From sqlite3.h.
_OK = 0
_IOERR = 10
_OPEN_CREATE = 0x4
_OPEN_FILES = 0x100 | 0x800 | 0x4000 | 0x80000  # main database and journal, super-journal, WAL
_SYNC_FULL = 0x3

_CLOSE = CFUNCTYPE(c_int, c_void_p)
_WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = CFUNCTYPE(c_int, c_void_p, c_int)
# The path stays an address: the file keeps it, and would be left with a copy that is gone.
_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))
_DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_SET_SYSTEM_CALL = CFUNCTYPE(c_int, c_void_p, c_char_p, c_void_p)
_GET_SYSTEM_CALL = CFUNCTYPE(c_void_p, c_void_p, c_char_p)
_OPEN_DIRECTORY = CFUNCTYPE(c_int, c_char_p, POINTER(c_int))


class _Methods(Structure):
    """sqlite3_io_methods, as of version 3."""

    _fields_ = (
        ("version", c_int),
        ("close", _CLOSE),
        ("read", c_void_p),
        ("write", _WRITE),
        ("truncate", _TRUNCATE),
        ("sync", _SYNC),
        ("others", c_void_p * 13),
    )


class _File(Structure):
    """The beginning of every sqlite3_file."""

    _fields_ = (("methods", POINTER(_Methods)),)


class _Vfs(Structure):
    """sqlite3_vfs, as of version 3."""

    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("app_data", c_void_p),
        ("open", _OPEN),
        ("delete", _DELETE),
        ("others", c_void_p * 11),
        ("set_system_call", _SET_SYSTEM_CALL),
        ("get_system_call", _GET_SYSTEM_CALL),
        ("next_system_call", c_void_p),
    )


class Unavailable(Exception):
    """SQLite cannot be reached here; the text says why, as a reason to skip."""


def _library() -> ctypes.CDLL:
    """The libsqlite3 that the module `sqlite3` calls. Raises Unavailable."""
    import _sqlite3

    # Built into the interpreter it has no file; its symbols may still be the process's own.
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    try:
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    except AttributeError as error:
        raise Unavailable(MISSING) from error
    return library


def _require_in_use() -> None:
    """The library found may be another one than the module's, which then knows nothing of ours."""
    try:
        sqlite3.connect(f"file:?vfs={_NAME}", uri=True).close()
    except sqlite3.OperationalError as error:
        raise Unavailable(MISSING) from error


@contextmanager
def recording(folder: Path, log: Path) -> Iterator[Recorder]:
    """Record what happens to databases under `folder` to the file `log`, in this process.

    Connections must be opened and closed inside. Raises Unavailable.
    """
    library = _library()
    recorder = Recorder(log)
    shim = _Shim(recorder, folder.resolve(), library.sqlite3_vfs_find(None))
    library.sqlite3_vfs_register(byref(shim.vfs), 1)
    try:
        _require_in_use()
        with shim.system_calls():
            yield recorder
    finally:
        library.sqlite3_vfs_unregister(byref(shim.vfs))
        recorder.close()
    if shim.files:
        raise RuntimeError(f"still open after recording: {sorted(shim.files.values())}")


def _reporting(function: Callable[..., int]) -> Callable[..., int]:
    """SQLite gets an I/O error where recording fails: ctypes would print it and go on."""

    def guarded(*arguments: Any) -> int:
        try:
            return function(*arguments)
        except Exception:
            return _IOERR

    return guarded


class _Shim:
    """The replaced functions, and what they know of open files."""

    def __init__(self, recorder: Recorder, folder: Path, standard: Any) -> None:
        self._recorder = recorder
        self._folder = folder
        self._standard = standard.contents
        # Names of open files by the address of their sqlite3_file.
        self.files: dict[int, str] = {}
        # The original tables by address, and our copies of them.
        self._methods: dict[int, tuple[_Methods, _Methods]] = {}
        self._tickets = itertools.count()
        self._calling = threading.local()
        self._open_directory_hook = _OPEN_DIRECTORY(_reporting(self._open_directory))
        self.vfs = _Vfs.from_buffer_copy(self._standard)
        self.vfs.name = _NAME.encode()
        self.vfs.open = _OPEN(_reporting(self._open))
        self.vfs.delete = _DELETE(_reporting(self._delete))

    # -- the VFS ---------------------------------------------------------------------------------

    def _open(self, vfs: int, path: int | None, file: int, flags: int, out: Any) -> int:
        name = None
        if path is not None and flags & _OPEN_FILES:
            name = self._name(os.fsdecode(ctypes.string_at(path)))
        if name is not None and flags & _OPEN_CREATE and not (self._folder / name).exists():
            self._recorder.add(Create(name))
        code = int(self._standard.open(vfs, path, file, flags, out))
        if code == _OK and name is not None:
            self.files[file] = name
            self._exchange(_File.from_address(file))
        return code

    def _exchange(self, file: _File) -> None:
        address = ctypes.addressof(file.methods.contents)
        if address not in self._methods:
            original = _Methods.from_address(address)
            ours = _Methods.from_buffer_copy(original)
            ours.close = _CLOSE(_reporting(lambda f: self._close(original, f)))
            ours.write = _WRITE(_reporting(lambda f, *rest: self._write(original, f, *rest)))
            ours.truncate = _TRUNCATE(_reporting(lambda f, n: self._truncate(original, f, n)))
            ours.sync = _SYNC(_reporting(lambda f, flags: self._sync(original, f, flags)))
            self._methods[address] = original, ours
        file.methods = ctypes.pointer(self._methods[address][1])

    def _delete(self, vfs: int, path: bytes, sync_folder: int) -> int:
        name = self._name(os.fsdecode(path))
        if name is not None and (self._folder / name).exists():
            self._recorder.add(Delete(name))
        with self._syncs_of_folders():
            return int(self._standard.delete(vfs, path, sync_folder))

    # -- files -----------------------------------------------------------------------------------

    def _close(self, original: _Methods, file: int) -> int:
        self.files.pop(file, None)
        return int(original.close(file))

    def _write(self, original: _Methods, file: int, data: int, size: int, offset: int) -> int:
        self._recorder.add(Write(self.files[file], offset, ctypes.string_at(data, size)))
        return int(original.write(file, data, size, offset))

    def _truncate(self, original: _Methods, file: int, size: int) -> int:
        self._recorder.add(Truncate(self.files[file], size))
        return int(original.truncate(file, size))

    def _sync(self, original: _Methods, file: int, flags: int) -> int:
        full = flags & 0xF == _SYNC_FULL
        with self._syncs_of_folders():
            ticket = self._sync_starts(self.files[file], full=full)
            code = int(original.sync(file, flags))
            if code == _OK:
                self._recorder.add(SyncEnded(ticket))
            return code

    def _sync_starts(self, name: str, *, full: bool) -> str:
        ticket = f"{os.getpid()}-{next(self._tickets)}"
        self._recorder.add(SyncStarted(name, full, ticket))
        return ticket

    # -- folders ---------------------------------------------------------------------------------

    @contextmanager
    def _syncs_of_folders(self) -> Iterator[None]:
        """A folder that is opened meanwhile is synced before the call returns."""
        self._calling.tickets = []
        yield
        for ticket in self._calling.tickets:
            self._recorder.add(SyncEnded(ticket))

    def _open_directory(self, path: bytes, descriptor: Any) -> int:
        """SQLite opens the folder of this file, and will sync it."""
        name = self._name(str(Path(os.fsdecode(path)).parent))
        if name is not None:
            # A folder's sync has no flag of its own: see docs/reliability.md.
            self._calling.tickets.append(self._sync_starts(name, full=True))
        return int(self._original_open_directory(path, descriptor))

    @contextmanager
    def system_calls(self) -> Iterator[None]:
        """Replace `openDirectory` of the standard VFS, `os.mkdir` and `os.fsync`."""
        vfs, call = byref(self._standard), b"openDirectory"
        original = self._standard.get_system_call(ctypes.addressof(self._standard), call)
        self._original_open_directory = _OPEN_DIRECTORY(original)
        hook = ctypes.cast(self._open_directory_hook, c_void_p)
        self._standard.set_system_call(ctypes.cast(vfs, c_void_p), call, hook)
        mkdir, fsync = os.mkdir, os.fsync

        def recorded_mkdir(path: Any, *arguments: Any, **options: Any) -> None:
            mkdir(path, *arguments, **options)
            name = self._name(str(Path(os.fsdecode(path)).resolve()))
            if name is not None:
                self._recorder.add(Create(name, folder=True))

        def recorded_fsync(descriptor: int) -> None:
            name = self._folder_name(descriptor)
            ticket = None if name is None else self._sync_starts(name, full=True)
            fsync(descriptor)
            if ticket is not None:
                self._recorder.add(SyncEnded(ticket))

        os.mkdir, os.fsync = recorded_mkdir, recorded_fsync  # type: ignore[assignment]
        try:
            yield
        finally:
            os.mkdir, os.fsync = mkdir, fsync
            self._standard.set_system_call(ctypes.cast(vfs, c_void_p), call, original)

    def _folder_name(self, descriptor: int) -> str | None:
        found = os.fstat(descriptor)
        if not stat.S_ISDIR(found.st_mode):
            return None
        for folder in (self._folder, *self._folder.rglob("*/")):
            if os.path.samestat(found, folder.stat()):
                return self._name(str(folder))
        return None

    def _name(self, path: str) -> str | None:
        """The path relative to the recorded folder, "" for that itself; `None` outside of it."""
        if path == str(self._folder):
            return ""
        prefix = f"{self._folder}{os.sep}"
        return path.removeprefix(prefix) if path.startswith(prefix) else None
