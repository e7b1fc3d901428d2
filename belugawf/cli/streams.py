"""Results go to stdout, messages to stderr; user code is kept from mixing them.

While the CLI drives user code, file descriptor 1 is a copy of stderr: `print`, `os.write(1, ...)`
and child processes all land there, and results are written to a saved descriptor of the real
stdout. Under a live view both descriptors lead into a pipe instead, so that whole lines can be
shown above the view without tearing it.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from stat import S_ISCHR
from typing import TextIO

from belugawf.cli import layout
from belugawf.host.talking import LossyFile, outlive_reader, talk
from belugawf.model.errors import UnavailableError

# What a program printed without ending the line is shown after this long, and no sooner: most
# unfinished lines are finished within microseconds.
_UNFINISHED_LINE_S = 0.5
_CHUNK = 65_536


class Streams:
    """The standard streams of this process.

    `final` says that the process ends with the command, so that the real stdout is never given
    back: a thread of the user's that outlives its activity cannot write into the results.
    `mask` is applied to messages before they are written; `as_json`, if it is set, makes each the
    line that is written. `color` is what `--color` asks for:
    errors are printed without knowing the command's flags.
    """

    def __init__(self) -> None:
        self.final = False
        self.mask: Callable[[str], str] | None = None
        self.as_json: Callable[[str], str] | None = None
        self.color = "auto"
        self._data: TextIO | None = None
        self._diverts = False

    def open_for_good(self) -> None:
        """Prepare the streams of a process that ends with its command.

        Where a standard descriptor is closed, /dev/null is opened. Otherwise the next file to be
        opened, the database among them, would become stdout.
        """
        for descriptor in (0, 1, 2):
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        # What the encoding cannot write is shown as an escape instead of ending the command.
        with suppress(AttributeError, ValueError):
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        # Kept: with the last reference, it might close its descriptor.
        self._replaced = sys.stderr
        sys.stderr = sys.__stderr__ = talk()  # type: ignore[misc]
        self.final = True

    def mask_with(self, mask: Callable[[str], str]) -> None:
        """Apply `mask` to messages from now on."""
        self.mask = mask

    def speak_json(self, as_json: Callable[[str], str] | None) -> None:
        """Write what `as_json` makes of each message from now on; `None`: as text again."""
        self.as_json = as_json

    @property
    def data(self) -> TextIO | None:
        """Where results go; `None` if stdout is closed."""
        return self._data if self.diverts else sys.stdout

    @property
    def diverts(self) -> bool:
        """Whether what is printed goes to stderr: this process drives user code, or did."""
        return self._diverts

    def write(self, text: str) -> None:
        """Print `text` as data. Raises `BrokenPipeError` when nobody reads any more.

        Nor does anybody at a terminal that has been closed; there it is no reason to stop.
        Raises `UnavailableError` if stdout cannot be written to at all.
        """
        stream = self.data
        if stream is None:
            return
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            if error.errno == errno.EBADF:
                raise UnavailableError(
                    "stdout is not open for writing", hint="redirect it with >, not with <"
                ) from None
            # It is no terminal any more by what it answers; a disk may say the same of a file.
            if error.errno != errno.EIO or not S_ISCHR(os.fstat(stream.fileno()).st_mode):
                raise

    def say(self, text: str) -> None:
        """Print a message on stderr; a closed stderr is no reason to stop."""
        text = text if self.mask is None else self.mask(text)
        if self.as_json is not None:
            text = self.as_json(text)
        elif self.talk_is_terminal():
            text = layout.fit(text, layout.columns(sys.stderr))
        self.say_json(text)

    def say_json(self, text: str) -> None:
        """As `say`, without `mask`, for documents: their texts are masked already."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def data_is_terminal(self) -> bool:
        return _is_terminal(self.data)

    def talk_is_terminal(self) -> bool:
        return _is_terminal(sys.stderr)

    def can_prompt(self) -> bool:
        """Whether a person can be asked: stdin and stderr are terminals."""
        return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)

    @contextmanager
    def diverted(self) -> Iterator[None]:
        """Send everything that is printed to stderr, at the level of file descriptors."""
        if self._diverts:
            yield
            return
        shown = sys.stdout
        if shown is not None:
            with suppress(OSError, ValueError):
                shown.flush()
        saved = os.dup(1)
        self._data = _writer(saved) if _is_descriptor(shown, 1) else shown
        self._diverts = True
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        if self.final:
            sys.__stdout__ = sys.__stderr__  # type: ignore[misc]
            outlive_reader()
        try:
            yield
        finally:
            if not self.final:
                with suppress(OSError, ValueError):
                    sys.stderr.flush()
                os.dup2(saved, 1)
                sys.stdout = shown
                if self._data is not None and self._data is not shown:
                    self._data.close()
                else:
                    os.close(saved)
                self._data, self._diverts = None, False


class LineCapture:
    """Leads descriptors 1 and 2 into a pipe and hands each printed line to `show`.

    `terminal` is the real stderr, for the view itself. `show` runs on a thread of its own.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._saved_out = os.dup(1)
        self._saved_err = os.dup(2)
        self.terminal = io.TextIOWrapper(
            io.BufferedWriter(LossyFile(os.dup(2), "w")),
            encoding=_encoding(),
            errors="backslashreplace",
            newline="\n",
        )
        self._reader, writer = os.pipe()
        self._stop_reader, self._stop_writer = os.pipe()
        sys.stderr.flush()
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._copy, name="belugawf-output", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the descriptors back and show what is left in the pipe."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(self._saved_out, 1)
        os.dup2(self._saved_err, 2)
        os.close(self._saved_out)
        os.close(self._saved_err)
        # Not by end of file: a child process of the user's may keep the pipe open.
        os.close(self._stop_writer)
        self._thread.join()
        os.close(self._reader)
        os.close(self._stop_reader)

    def _copy(self) -> None:
        pending = b""
        while True:
            timeout = _UNFINISHED_LINE_S if pending else None
            ready, _, _ = select.select([self._reader, self._stop_reader], [], [], timeout)
            if self._reader in ready:
                chunk = os.read(self._reader, _CHUNK)
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._show_bytes(line)
                if chunk:
                    continue
            elif not ready:
                self._show_bytes(pending)
                pending = b""
                continue
            if pending:
                self._show_bytes(pending)
            return

    def _show_bytes(self, line: bytes) -> None:
        # A line that cannot be shown must not stop the pipe: user code would block on it.
        with suppress(Exception):
            self._show(line.decode("utf-8", "replace").rstrip("\r"))


def _writer(descriptor: int) -> TextIO:
    return open(descriptor, "w", encoding=_encoding(), errors="backslashreplace", newline="\n")


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _is_descriptor(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is not None and stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


STREAMS = Streams()
