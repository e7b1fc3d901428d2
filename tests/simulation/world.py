"""The simulated machine: its clock, its kernel, its processes, and who runs when.

Everything that happens is decided by one seeded generator, in one thread. A step of the world is
one callback of one process. Two things make the interleaving finer than that: before each
transaction or look at the database a process may be *preempted*, so that others run from within
that call; and work for the committing thread is done some time after it was handed over.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from belugawf.authoring.loader import Catalog
from belugawf.executor.options import EngineOptions
from belugawf.local.drive.engine import Engine
from belugawf.local.executor import LocalExecutor
from belugawf.model.durations import MICROSECOND_NS, SECOND_NS
from belugawf.model.errors import BelugaError
from belugawf.replay.unwinding import unwind
from tests.simulation import programs
from tests.simulation.loop import SimLoop
from tests.simulation.observer import Observer
from tests.simulation.situations import Situations
from tests.simulation.storage import SimDatabase, Storage
from tests.simulation.threads import Killed, SimThread

T = TypeVar("T")
Main = Callable[["Process"], Coroutine[Any, Any, None]]

_BEGINNING_NS = 1_800_000_000 * SECOND_NS
_CALLBACK_NS = 20_000
# How many processes may be preempted within each other.
_DEEPEST = 3


@dataclass
class Faults:
    """How likely each thing is whenever it could happen (0: never)."""

    killed: float = 0.0  # at a commit or before an effect
    full: float = 0.0  # the disk: a statement in a transaction fails
    unreadable: float = 0.0  # a question fails
    commit_fails: float = 0.0
    commit_unknown: float = 0.0  # it is reported as failed, and is there
    busy: float = 0.0  # the write lock is not to be had within 30 s
    contended: float = 0.0  # it is not to be had at once
    held: float = 0.0  # whoever has it does nothing for a while
    slow_disk: float = 0.0
    preempted: float = 0.0
    lost: float = 0.0  # of datagrams
    late: float = 0.0
    stalled: float = 0.0  # the machine takes up to 0.1 s for a callback
    no_thread: float = 0.0  # it has no thread to give
    aimed: str = ""  # the method of `Store` whose commits fail, or seem to, as `hit` says
    hit: float = 0.0


class Process:
    """One operating system's process, with its loop and its view of the database.

    `hindered_at` is when the disk or the lock last refused it something, `stop_at` when it is asked
    to stop, in seconds of the monotonic clock. `place` is the method of `Store` that it is in, and
    `doubts` whether the commit there was reported as failed.
    """

    def __init__(self, world: World, name: str, catalog: Catalog, options: EngineOptions) -> None:
        self.world = world
        self.name = name
        self.catalog = catalog
        self.options = options
        self.unwritable = catalog is programs.CATALOGS["unwritable"]
        self.loop = SimLoop(self)
        self.alive = True
        self.frozen = False
        self.leaving = False
        self.killed = False
        self.is_worker = False
        self.hindered_at = -1.0
        self.stop_at: float | None = None
        self.interrupted_at: float | None = None
        self.limit_ns: int | None = None
        self.was_at_limit = False
        self.place = ""
        self.place_depth = 0
        self.doubts = False
        self.ids: set[str] = set()
        self.databases: list[SimDatabase] = []
        self.executor: LocalExecutor | None = None

    @property
    def engine(self) -> Engine | None:
        """What drives runs here."""
        return None if self.executor is None else self.executor._engine

    @property
    def stops(self) -> bool:
        """Whether it may let its runs go whatever waits for them."""
        return self.leaving or self.interrupted_at is not None or self.is_at_limit

    @property
    def is_at_limit(self) -> bool:
        """Whether the time of a resume of it has been up, by the wall clock, which may go back.

        It may let runs go for that after the resume is over, once nothing is at work for them.
        """
        if self.limit_ns is not None and self.world.now() >= self.limit_ns:
            self.was_at_limit = True
        return self.was_at_limit

    def expect_jump(self, jump_ns: int) -> None:
        """The clock is about to be set; what reads it for the limit may not have done so yet."""
        if not self.is_at_limit and self.limit_ns is not None:
            self.limit_ns += min(jump_ns, 0)

    @contextmanager
    def limited(self, seconds: float | None) -> Iterator[None]:
        """While this lasts it is to stop after so long."""
        if seconds is not None and self.interrupted_at is None:
            self.stop_at = self.world.seconds() + seconds
            self.limit_ns = self.world.now() + int(seconds * SECOND_NS)
        try:
            yield
            if seconds is not None and self.is_at_limit:
                self.world.situations.limit_reached(self)
        finally:
            self.limit_ns = None
            self.stop_at = self.interrupted_at

    def new_executor(self) -> LocalExecutor:
        """The real executor, on what is simulated."""
        self.executor = _Executor(
            self,
            self.world.storage.path,
            [definition.function for definition in self.catalog.workflows.values()],
            options=self.options,
            clock=self.world,
        )
        self.executor.__dict__["catalog"] = self.catalog  # importing it each time takes too long
        return self.executor

    def interrupt(self) -> None:
        """SIGINT, once its executor is open."""
        assert self.executor is not None
        if self.alive:
            now = self.world.seconds()
            self.interrupted_at = now if self.interrupted_at is None else self.interrupted_at
            self.stop_at = now if self.stop_at is None else min(self.stop_at, now)
            self.world.situations.asked_to_stop(self)
            self.loop.call_soon(self.executor.interrupt)

    def check(self) -> None:
        """A dead process does nothing more."""
        if not self.alive:
            raise Killed

    def hinder(self) -> None:
        """The disk or the lock refuses it something."""
        self.hindered_at = self.world.seconds()

    def disk_error(self, name: str) -> sqlite3.OperationalError:
        """What SQLite raises where the disk refuses."""
        self.hinder()
        error = sqlite3.OperationalError(f"simulated {name}")
        error.sqlite_errorname = name
        return error

    def pause(self) -> None:
        """Others may run here."""
        self.check()
        self.world.preempt()
        self.check()


class World:
    """One machine from its first process to its last. `now` is its wall clock."""

    def __init__(self, seed: int, storage: Storage, faults: Faults) -> None:
        self.rng = random.Random(seed)
        self.storage = storage
        self.faults = faults
        self.observer = Observer(self)
        self.stats: Counter[str] = Counter()
        self.situations = Situations(self)
        self.processes: list[Process] = []
        self.gone: list[Process] = []
        self.threads: list[SimThread] = []
        self.locks: dict[str, Process] = {}
        self.sockets: dict[str, Any] = {}
        self.writer: Process | None = None
        self.offset_ns = 0
        self.latest_ns = 0  # that anybody has read: the clock may have been set back since
        self.went_back = False
        self.boots = 1
        self._mono_ns = 0
        self._events: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = 0
        self._stack: list[tuple[Process, bool]] = []

    # -- time and chance -------------------------------------------------------------------------

    def now(self) -> int:
        """The wall clock, as `Clock`."""
        now = _BEGINNING_NS + self._mono_ns + self.offset_ns
        now -= now % MICROSECOND_NS
        self.latest_ns = max(self.latest_ns, now)
        return now

    def seconds(self) -> float:
        """The monotonic clock."""
        return self._mono_ns / SECOND_NS

    def happens(self, fault: str) -> bool:
        """Whether that fault happens now."""
        rate = getattr(self.faults, fault)
        if rate and self.rng.random() < rate:
            self.stats[fault] += 1
            return True
        return False

    def choice(self, among: Sequence[T]) -> T:
        """One of them."""
        return among[int(self.rng.random() * len(among))]

    def next_number(self) -> int:
        """A number that nothing else has."""
        self._numbers += 1
        return self._numbers

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """Do that in so many seconds."""
        at = self._mono_ns + int(seconds * SECOND_NS)
        heapq.heappush(self._events, (at, self.next_number(), what))

    # -- processes -------------------------------------------------------------------------------

    def spawn(
        self, name: str, main: Main, catalog: Catalog, options: EngineOptions | None = None
    ) -> Process:
        """Start a process that ends when `main` does."""
        process = Process(self, name, catalog, options or EngineOptions())
        self.processes.append(process)
        self.stats["processes"] += 1

        async def run() -> None:
            try:
                await main(process)
            except BelugaError as error:
                self.stats[f"told {type(error).__name__}"] += 1
                if "a bug in belugawf" in str(error):
                    raise
            process.leaving = True

        def ended(task: asyncio.Task[None]) -> None:
            error = task.exception()
            if process.alive and error is not None:
                self.observer.complain(f"{name} ended with {error!r}", error)
            self.end(process)

        with _running(process.loop):
            process.loop.create_task(run(), name=name).add_done_callback(ended)
        return process

    def end(self, process: Process) -> None:
        """The process is gone, and the kernel drops what it held."""
        if process.alive:
            process.alive = False
            self.processes.remove(process)
            self.gone.append(process)
            for owner_id in process.ids:
                self.locks.pop(owner_id, None)
            for path in [p for p, s in self.sockets.items() if s.process is process]:
                del self.sockets[path]
            for database in process.databases:
                database.end()
            if self.writer is process:
                self.writer = None

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        if process.alive:
            self.stats["kills"] += 1
            process.killed = True
            self.end(process)

    def later_in_thread(self, process: Process, job: Callable[[], None]) -> None:
        """Do the work of the process's committing thread some time later."""

        def do() -> None:
            if not process.alive:
                return
            if process.frozen or self.writer is not None:
                self.after(0.05, do)
                return
            self._run(process, job, on_loop=False)

        self.after(self.rng.random() * (0.3 if self.happens("slow_disk") else 0.004), do)

    def run_in_thread(self, process: Process, work: Callable[[], None]) -> None:
        """A thread of that process runs for a while."""
        self._run(process, work, on_loop=False)

    @property
    def current(self) -> Process:
        """Whose code is running."""
        return self._stack[-1][0]

    @property
    def is_on_loop(self) -> bool:
        """Whether it runs on its event loop, and not in a thread."""
        return self._stack[-1][1]

    @property
    def depth(self) -> int:
        """How many threads of execution are preempted within each other."""
        return len(self._stack)

    @property
    def on_loop(self) -> bool:
        """Whether what is running is a loop's, and not work of another thread."""
        return not self._stack or self._stack[-1][1]

    def dispose(self) -> None:
        """The history is over: unwind what was left behind, without being heard."""
        for process in list(self.processes):
            self.end(process)
        for process in self.gone:
            with _running(process.loop):
                if process.engine is not None:
                    process.engine.evict_all()
                unwind(process.loop.tasks)
        for thread in self.threads:
            self._run(thread.process, thread.unwind, on_loop=False)
        self.threads.clear()
        self.gone.clear()

    def unhandled(self, process: Process, context: dict[str, Any]) -> None:
        """A callback of a loop has raised."""
        error = context.get("exception")
        if process.alive and not isinstance(error, Killed):
            self.observer.complain(f"{process.name}: {context.get('message')}: {error!r}", error)

    # -- the scheduler ---------------------------------------------------------------------------

    def run_until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Let things happen until it is done; whether it is, in `limit_s` of virtual time."""
        end = self._mono_ns + int(limit_s * SECOND_NS)
        while not done():
            if self.observer.violation is not None:
                raise self.observer.violation
            if self._mono_ns >= end:
                return False
            if not self._step():
                self._mono_ns = end
        return True

    def _step(self) -> bool:
        """Run one callback, or let time pass until there is one; false where there never is."""
        while self._events and self._events[0][0] <= self._mono_ns:
            heapq.heappop(self._events)[2]()
        ripe = self._ripe()
        if not ripe:
            return self._advance()
        process = ripe[0] if len(ripe) == 1 else self.choice(ripe)
        self._run(process, process.loop.run_one, on_loop=True)
        self._mono_ns += _CALLBACK_NS
        if self.happens("stalled"):
            self._mono_ns += int(self.rng.random() * SECOND_NS / 10)
        return True

    def _ripe(self) -> list[Process]:
        now = self.seconds()
        return [p for p in self.processes if not p.frozen and p.loop.is_ripe(now)]

    def _advance(self) -> bool:
        moments = [self._events[0][0]] if self._events else []
        for process in self.processes:
            timer = None if process.frozen else process.loop.next_timer()
            if timer is not None:
                moments.append(int(timer * SECOND_NS) + 1)
        if not moments:
            return False
        self._mono_ns = max(self._mono_ns + 1, min(moments))
        return True

    def preempt(self) -> None:
        """Others run, perhaps, before the current process goes on."""
        if len(self._stack) <= _DEEPEST and self.happens("preempted"):
            self._let_others_run()

    def _let_others_run(self) -> None:
        for _ in range(1 + int(self.rng.random() * 12)):
            # A loop that is somewhere below cannot go on; one whose other thread is can.
            busy = [process for process, on_loop in self._stack if on_loop]
            ripe = [process for process in self._ripe() if process not in busy]
            if not ripe:
                return
            process = self.choice(ripe)
            self._run(process, process.loop.run_one, on_loop=True)
            self._mono_ns += _CALLBACK_NS

    def _run(self, process: Process, work: Callable[[], None], *, on_loop: bool) -> None:
        self.stats["steps"] += 1
        self._stack.append((process, on_loop))
        try:
            with _running(process.loop if on_loop else None):
                work()
        except Killed:
            pass
        except (SystemExit, GeneratorExit, asyncio.CancelledError) as error:
            self.observer.complain(f"{process.name}: {error!r} came out of its event loop", error)
        finally:
            self._stack.pop()

    def step(self, name: str) -> None:
        """In place of `test_hooks.step`: the process may die here, or others run."""
        if not self._stack:
            return
        process = self.current
        if self.happens("killed"):
            self.kill(process)
        process.check()
        if name != "before commit":
            process.pause()
        elif self.happens("held"):
            self._mono_ns += int(self.rng.random() * SECOND_NS / 2)
            self._let_others_run()
            process.check()


class _Executor(LocalExecutor):
    def __init__(self, process: Process, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._process = process

    async def __aexit__(self, *exc: object) -> None:
        self._process.leaving = True
        await super().__aexit__(*exc)
        self._process.world.situations.left(self._process)


@contextmanager
def _running(loop: SimLoop | None) -> Iterator[None]:
    """Make it the thread's running loop, also where the task of another one is below us."""
    outer = asyncio._get_running_loop()
    outer_task = None if outer is None else asyncio.current_task(outer)
    if outer is not None and outer_task is not None:
        asyncio.tasks._leave_task(outer, outer_task)
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)
        if outer is not None and outer_task is not None:
            asyncio.tasks._enter_task(outer, outer_task)
