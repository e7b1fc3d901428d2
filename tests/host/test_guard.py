"""The guard of turns and Python's own watchdog, which is one for the whole process."""

from __future__ import annotations

import faulthandler
import threading
from types import SimpleNamespace

import pytest

from belugawf.host.guard import TurnGuard


def test_a_closed_guard_leaves_no_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed while its thread looks at a turn, it does not set the watchdog once more: that would
    print the stacks of a program that has long gone on with something else."""
    armed = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: armed.append(True))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: armed.append(False))
    guard, looked = TurnGuard(), threading.Event()

    def closing(turn: object) -> bool:
        guard.close()
        looked.set()
        return False

    monkeypatch.setattr(guard, "_look_at", closing)
    assert guard.run(SimpleNamespace(applied=0, interrupted=False), lambda: looked.wait(60))
    assert guard._watcher is not None
    guard._watcher.join(60)
    assert armed[0] is True
    assert armed[-1] is False
