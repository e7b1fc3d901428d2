"""Where belugawf meets the operating system, and what stands there while a world is simulated.

The clock and the functions of workflows are handed to belugawf as they are by its users. The rest
has no other users than the operating system, and is put in its place: locks, datagrams, the
database's connections, chance, stopwatches, and the thread that watches workflow code.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from belugawf.executor import base
from belugawf.host import attempts, border, test_hooks, threads as host_threads
from belugawf.local import driving, executor, view
from belugawf.local.drive import presence, turns
from belugawf.local.drive.engine import Engine
from belugawf.local.file import writer
from belugawf.model.errors import WorkflowBlockedError
from tests.simulation import programs
from tests.simulation.situations import watched_store
from tests.simulation.storage import SimDatabase
from tests.simulation.threads import Killed, SimQueue, threading_of
from tests.simulation.world import Process, World

T = TypeVar("T")


class _Kernel:
    """What the kernel of that world's machine says and does."""

    def __init__(self, world: World) -> None:
        self._world = world

    def is_alive(self, folder: Path, owner_id: str) -> bool:
        """Whether the lock of that owner is held."""
        return owner_id in self._world.locks

    def boot_id(self) -> str:
        """The present boot of the machine."""
        return f"boot-{self._world.boots}"

    def host_name(self) -> str:
        return "simulation"

    def sweep(self, folder: Path) -> int:
        return 0

    def is_frozen(self, pid: int) -> bool:
        return False

    def require_posix(self) -> None:
        pass

    def wake(self, path: str, text: str) -> bool:
        """Send a datagram: it may be lost, or late."""
        world, socket = self._world, self._world.sockets.get(path)
        if socket is not None and not world.happens("lost"):
            longest = 2.0 if world.happens("late") else 0.002
            world.after(world.rng.random() * longest, socket.receive)
        return socket is not None

    def open_database(self, *args: Any, **kwargs: Any) -> SimDatabase:
        """In place of `Database`."""
        process = self._world.current
        database = SimDatabase(self._world.storage, process)
        process.databases.append(database)
        return database

    def acquire(self, folder: Path) -> _OwnerLock:
        """In place of `OwnerLock.acquire`."""
        lock = _OwnerLock(self._world)
        self._world.current.ids.add(lock.id)
        self._world.locks[lock.id] = self._world.current
        return lock

    def bind(self, folder: Path, owner_id: str) -> _Socket:
        """In place of `WakeSocket.bind`."""
        socket = _Socket(self._world.current, owner_id, self._world.next_number())
        self._world.sockets[owner_id] = socket
        return socket


class _OwnerLock:
    path = Path("/dev/null")  # nobody removes it

    def __init__(self, world: World) -> None:
        self.id = f"{world.rng.getrandbits(128):032x}"
        self._world = world

    def fileno(self) -> int:
        return -1

    def release(self) -> None:
        self._world.locks.pop(self.id, None)


class _Socket:
    def __init__(self, process: Process, path: str, number: int) -> None:
        self.process = process
        self.path = path
        self._number = number
        self._received: set[str] = set()

    def fileno(self) -> int:
        return self._number

    def receive(self) -> None:
        self._received.add(presence.LOOK)
        if self.process.alive:
            self.process.loop.readable(self._number)

    def drain(self) -> set[str]:
        received, self._received = self._received, set()
        return received

    def close(self) -> None:
        self.process.world.sockets.pop(self.path, None)


class _Guard:
    """In place of `TurnGuard`: nothing takes long here, but a workflow may claim that it does."""

    def run(self, watched: object, turn: Callable[[], T]) -> T:
        programs.blocked = False
        value = turn()
        if programs.blocked:
            raise WorkflowBlockedError("the workflow says that it blocks")
        return value

    def close(self) -> None:
        pass


class _Bugs(logging.Handler):
    """belugawf logs an error where it has met a bug of its own."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = "exception was never retrieved" in record.getMessage()  # of the workflow's own tasks
        if isinstance(error, Killed) or told:
            return
        self._world.observer.complain(f"logged: {record.getMessage()}: {error!r}", error)


@contextmanager
def simulated(world: World) -> Iterator[None]:
    """While this lasts belugawf's ways to the operating system lead into that world."""
    kernel = _Kernel(world)
    clock = SimpleNamespace(monotonic=world.seconds, perf_counter=_stopwatch(world))

    def new_run_id() -> str:
        return str(uuid.UUID(int=world.rng.getrandbits(128)))

    seams = [
        (executor, "Database", kernel.open_database),
        (executor, "ownership", kernel),
        (driving, "ownership", kernel),
        (executor, "time", clock),
        (base, "new_run_id", new_run_id),
        (writer, "time", clock),
        (turns, "random", world.rng),
        (border, "TurnGuard", _Guard),
        (presence, "ownership", kernel),
        (presence, "OwnerLock", SimpleNamespace(acquire=kernel.acquire)),
        (presence, "WakeSocket", SimpleNamespace(bind=kernel.bind)),
        (presence, "wake", kernel.wake),
        (view, "ownership", kernel),
        (test_hooks, "step", world.step),
        (Engine, "_tick", _checked(world, Engine._tick)),
        (attempts, "_has_had_children", lambda: world.rng.random() < 0.3),
        (host_threads, "threading", threading_of(world)),
        (host_threads, "SimpleQueue", SimQueue),
    ]
    logger = logging.getLogger("belugawf")
    handler, level, propagates = _Bugs(world), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        with ExitStack() as stack:
            for module, name, fake in seams:
                stack.enter_context(mock.patch.object(module, name, fake))
            stack.enter_context(watched_store(world))
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def _checked(
    world: World, tick: Callable[[Engine], Awaitable[None]]
) -> Callable[[Engine], Awaitable[None]]:
    """After each tick what the engine holds agrees with its tables, and with the histories."""

    async def checked(self: Engine) -> None:
        failure: Exception | None = None
        try:
            await tick(self)
        except Exception as error:
            failure = error
        self.table.check()
        world.observer.check_memory(self.table.runs)
        if failure is not None:
            raise failure

    return checked


def _stopwatch(world: World) -> Callable[[], float]:
    """What a commit seems to take: a slow disk makes the next ones go off the loop."""
    elapsed = 0.0

    def read() -> float:
        nonlocal elapsed
        elapsed += 0.02 if world.happens("slow_disk") else 0.0001
        return elapsed

    return read
