"""Threads of activities in the simulated machine: real ones, of which one runs at a time.

Such a thread runs only while the world waits for it, until it sleeps or waits for work. So it holds
up nobody, the seed decides what happens meanwhile, and code that cannot be stopped is code that
cannot be stopped. A process that dies leaves its threads where they are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import Process, World


class Killed(BaseException):
    """Unwinds the Python frames of a process that is dead."""


# How long it takes the machine to let a thread run, in seconds.
_SOON_S = 0.002

_here = threading.local()


class SimThread:
    """In place of `threading.Thread`."""

    def __init__(self, process: Process, target: Callable[[], None]) -> None:
        self.process = process
        self._target = target
        self._world = process.world
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._its_turn = threading.Semaphore(0)
        self._our_turn = threading.Semaphore(0)
        self._unwinds = False
        self._over = False

    def start(self) -> None:
        """Raises `RuntimeError` where the system has no more of them."""
        if self._world.happens("no_thread"):
            raise RuntimeError("can't start new thread")
        self._world.threads.append(self)
        self.wake(self._world.rng.random() * _SOON_S)

    def wake(self, seconds: float) -> None:
        """Let it go on in so many seconds."""
        self._world.after(seconds, self._go_on)

    def wait(self) -> None:
        """Called in it: until somebody wakes it."""
        self._our_turn.release()
        self._its_turn.acquire()
        if self._unwinds:
            raise Killed

    def unwind(self) -> None:
        """The history is over."""
        self._unwinds = True
        if self._thread.ident is not None and not self._over:
            self._switch()

    def _go_on(self) -> None:
        if not self.process.alive or self._over:
            return
        if self.process.frozen:
            self.wake(0.05)
        else:
            self._world.run_in_thread(self.process, self._switch)

    def _switch(self) -> None:
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._its_turn.release()
        self._our_turn.acquire()
        if self._over:
            self._thread.join()

    def _main(self) -> None:
        _here.thread = self
        try:
            self._target()
        except Killed:
            pass
        except BaseException as error:
            self._world.observer.complain(f"a thread ended with {error!r}", error)
        finally:
            self._over = True
            self._our_turn.release()


class SimQueue:
    """In place of `SimpleQueue`: whoever waits for an item is woken soon after it came."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiting: deque[SimThread] = deque()

    def put(self, item: Any) -> None:
        """Put an item in; if somebody waits for one, wake them."""
        self._items.append(item)
        if self._waiting:
            thread = self._waiting.popleft()
            thread.wake(thread.process.world.rng.random() * _SOON_S)

    def get(self) -> Any:
        """The item that came first; waits for it."""
        while not self._items:
            self._waiting.append(_here.thread)
            _here.thread.wait()
        return self._items.popleft()

    def empty(self) -> bool:
        """Whether there is none."""
        return not self._items


def sleep(seconds: float | None) -> None:
    """In a simulated thread: take so long, `None` for ever."""
    thread: SimThread = _here.thread
    if seconds is not None:
        thread.wake(seconds)
    thread.wait()


def threading_of(world: World) -> SimpleNamespace:
    """In place of the module `threading`."""

    def new(target: Callable[[], None], **_: object) -> SimThread:
        return SimThread(world.current, target)

    return SimpleNamespace(Thread=new, Lock=threading.Lock)
