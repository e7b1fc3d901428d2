"""Importing the modules of a folder: their code is the user's, and may not come back."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from contextvars import Context
from pathlib import Path

from belugawf.authoring.loader import Catalog
from belugawf.host.border import interruptible, interrupts, is_interrupt, log
from belugawf.host.guard import stack_of
from belugawf.host.logs import modules_imported

# An import that takes longer is said, in seconds.
_LONG_S = 5.0


def import_folder(folder: Path, context: Context, *, own_process: bool = False) -> Catalog:
    """Its modules, imported in this context.

    Raises `UnavailableError` if the folder cannot be read, and KeyboardInterrupt if that was a real
    one; whatever else a module raises is its problem. In a process of our own, each signal that
    ends it ends the import too: see `interruptible`.
    """
    with interruptible() if own_process else contextlib.nullcontext(), interrupts(), _watched():
        catalog = context.run(Catalog.from_folder, folder, is_interrupt)
    modules_imported()
    return catalog


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Say where the code of this thread stands, if it takes long."""
    thread, over = threading.get_ident(), threading.Event()

    def watch() -> None:
        if not over.wait(_LONG_S):
            log(
                logging.WARNING,
                "importing the workflow modules takes long: after %g s it is at %s",
                _LONG_S,
                stack_of(thread),
            )

    with contextlib.suppress(RuntimeError):  # no more threads: then it is not said
        threading.Thread(target=watch, name="belugawf-imports", daemon=True).start()
    try:
        yield
    finally:
        over.set()
