"""A deterministic asyncio event loop. It knows asyncio, and nothing of workflows.

Life of a callback: `call_soon` appends it to one FIFO; `run_ready` runs the FIFO until it is
empty. Time stands still meanwhile: `time()` is what its driver set. `call_later` and `call_at` ask
the driver for a durable timer, and `fire` runs its callback when the driver says that it is due.

Three things make it deterministic where asyncio alone is not:

* asyncio keeps tasks and futures in sets, whose order follows their hashes, which are addresses.
  `CountedTask` and `CountedFuture` hash to a creation counter instead, and so does what `gather`
  returns.
* `asyncio.as_completed` starts its coroutines in the order of a set. Its code is replaced by one
  that turns them into tasks in the order given, when this loop runs.
* Whatever would touch the world raises `WorkflowCodeError`.

Dropping a suspended coroutine would run its `finally` blocks. So `evict` throws `RunEvicted` into
every task, in creation order, while each call to this loop raises it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import Context
from datetime import timedelta
from types import FunctionType
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack, cast

from belugawf.model.errors import RunEvicted, WorkflowBlockedError, WorkflowCodeError

# One turn of a real workflow runs some dozens of callbacks; a fan-out of 10,000 activities some
# 50,000. More than this without waiting for anything is a loop that never ends.
MAX_CALLBACKS = 100_000
# Timers that are over at once, one after the other: a loop that waits for nothing.
MAX_EMPTY_TIMERS = 1_000
_EMPTY_TIMER_S = 0.001
# How often a coroutine that swallows RunEvicted is told again.
_MAX_THROWS = 100
# A loop that swallows RunEvicted at every call, without awaiting, would spin for ever. After so
# many, calls go through, unheard: its next await stands still, and it is left there.
MAX_REFUSALS = 10_000


T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")


class TimerDriver(Protocol):
    """Who makes timers durable."""

    def start_timer(self, timer: DurableTimer, delay: timedelta) -> None: ...

    def cancel_timer(self, timer: DurableTimer) -> None: ...


class CountedFuture(asyncio.Future[Any]):
    """A future whose hash is its creation number."""

    def __init__(self, *, loop: NumberingLoop) -> None:
        self._number = loop.next_number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class CountedTask(asyncio.Task[Any]):
    """A task whose hash is its creation number."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: NumberingLoop,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        number = loop.next_number()
        # asyncio keeps every task of the process in one set of weak references, and a reference
        # keeps the hash that it was entered with. By number the first tasks of all runs would
        # collide there.
        self._number = object.__hash__(self)
        super().__init__(coro, loop=loop, name=name or f"task-{number}", context=context)
        self._number = number

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _CountedGathering(asyncio.tasks._GatheringFuture):  # type: ignore[name-defined, misc]
    """What `asyncio.gather` returns; on a deterministic loop it hashes as other futures do."""

    def __init__(self, children: Any, *, loop: asyncio.AbstractEventLoop) -> None:
        if isinstance(loop, NumberingLoop):
            self._number = loop.next_number()
        else:
            self._number = object.__hash__(self)
        super().__init__(children, loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


asyncio.tasks._GatheringFuture = _CountedGathering  # type: ignore[attr-defined]


class DurableTimer(asyncio.TimerHandle):
    """A timer that its driver keeps; `seq` is the driver's number for it."""

    __slots__ = ("empty", "seq")

    seq: int
    empty: bool


def _refuse(name: str) -> Any:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        self.check()
        raise WorkflowCodeError(
            f"workflow code cannot use loop.{name}{_location()}",
            hint="do it in an activity: its result is recorded, and replay gives it back",
        )

    return refuse


class NumberingLoop(asyncio.AbstractEventLoop):
    """A loop for workflow code: it numbers what it creates, and refuses to touch the world."""

    evicting = False
    _created = 0

    def check(self) -> None:
        """Raises where the loop is of no use any more."""
        raise NotImplementedError

    def next_number(self) -> int:
        """The creation number of the next task or future."""
        if self.evicting:
            self.check()
        self._created += 1
        return self._created

    run_in_executor = _refuse("run_in_executor")
    set_default_executor = _refuse("set_default_executor")
    call_soon_threadsafe = _refuse("call_soon_threadsafe")
    run_forever = _refuse("run_forever")
    run_until_complete = _refuse("run_until_complete")
    stop = _refuse("stop")
    close = _refuse("close")
    getaddrinfo = _refuse("getaddrinfo")
    getnameinfo = _refuse("getnameinfo")
    create_connection = _refuse("create_connection")
    create_server = _refuse("create_server")
    create_unix_connection = _refuse("create_unix_connection")
    create_unix_server = _refuse("create_unix_server")
    create_datagram_endpoint = _refuse("create_datagram_endpoint")
    connect_accepted_socket = _refuse("connect_accepted_socket")
    start_tls = _refuse("start_tls")
    sendfile = _refuse("sendfile")
    connect_read_pipe = _refuse("connect_read_pipe")
    connect_write_pipe = _refuse("connect_write_pipe")
    subprocess_exec = _refuse("subprocess_exec")
    subprocess_shell = _refuse("subprocess_shell")
    add_reader = _refuse("add_reader")
    remove_reader = _refuse("remove_reader")
    add_writer = _refuse("add_writer")
    remove_writer = _refuse("remove_writer")
    sock_recv = _refuse("sock_recv")
    sock_recv_into = _refuse("sock_recv_into")
    sock_recvfrom = _refuse("sock_recvfrom")
    sock_recvfrom_into = _refuse("sock_recvfrom_into")
    sock_sendall = _refuse("sock_sendall")
    sock_sendto = _refuse("sock_sendto")
    sock_connect = _refuse("sock_connect")
    sock_accept = _refuse("sock_accept")
    sock_sendfile = _refuse("sock_sendfile")
    add_signal_handler = _refuse("add_signal_handler")
    remove_signal_handler = _refuse("remove_signal_handler")
    set_task_factory = _refuse("set_task_factory")
    set_exception_handler = _refuse("set_exception_handler")
    set_debug = _refuse("set_debug")
    shutdown_default_executor = _refuse("shutdown_default_executor")


class DeterministicLoop(NumberingLoop):
    """See the module's docstring. Not for use outside of a driver."""

    def __init__(self, driver: TimerDriver) -> None:
        self._driver = driver
        self._ready: deque[events.Handle] = deque()
        self._now = 0.0
        self._tasks: dict[int, CountedTask] = {}
        self._prune_at = 64
        self._generators: list[Any] = []
        self._empty_timers = 0
        self._budget = MAX_CALLBACKS
        self._refused: WorkflowBlockedError | None = None
        self._refusals = 0
        self.evicting = False
        self.unhandled: list[dict[str, Any]] = []

    # -- what the driver calls -------------------------------------------------------------------

    def begin_turn(self, seconds: float) -> None:
        """Set what `time()` returns, in seconds since 1970; callbacks are counted anew."""
        self._now = seconds
        self._budget = MAX_CALLBACKS

    def fire(self, timer: DurableTimer) -> None:
        """The timer is due: its callback runs with the next `run_ready`."""
        if not timer.cancelled():
            self._ready.append(timer)

    def rested(self) -> None:
        """Something else than an empty timer happened: their count starts anew."""
        self._empty_timers = 0

    def run_ready(self) -> None:
        """Run callbacks until none is ready.

        Raises `WorkflowBlockedError` after `MAX_CALLBACKS` callbacks of one turn, or
        `MAX_EMPTY_TIMERS` timers.
        """
        self.within(self._run_callbacks)
        self._prune()

    def within(self, work: Callable[[Unpack[_Ts]], T], *args: *_Ts) -> T:
        """What `work` returns, with this loop as the thread's running one.

        It is that also where the real loop runs us: a task of that one may be driving us, and
        Python allows one current task a thread.
        """
        outer = events._get_running_loop()
        if outer is self:
            return work(*args)
        outer_task = None if outer is None else asyncio.current_task(outer)
        if outer is not None and outer_task is not None:
            asyncio.tasks._leave_task(outer, outer_task)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._keep_generator, finalizer=_forget)
        events._set_running_loop(self)
        try:
            return work(*args)
        finally:
            events._set_running_loop(outer)
            sys.set_asyncgen_hooks(*hooks)
            if outer is not None and outer_task is not None:
                asyncio.tasks._enter_task(outer, outer_task)

    def _keep_generator(self, generator: Any) -> None:
        self._generators.append(generator)

    def _run_callbacks(self) -> None:
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if handle.cancelled():
                continue
            try:  # noqa: SIM105 - a context manager for each callback would be slower
                handle._run()
            except SystemExit:
                pass  # the task keeps it as its exception: that is where we look
            self._budget -= 1
            if self._budget <= 0:
                raise WorkflowBlockedError(
                    f"the workflow ran {MAX_CALLBACKS:,} steps without waiting for anything"
                    f"{self._busy_line(handle)}",
                    hint="look for a loop that only awaits asyncio.sleep(0) or finished tasks",
                )
            if self._refused is not None:
                raise self._refused
            # An error keeps the frames that it passed, since Python 3.12 this one among them: with
            # the handle, its task would live on in a cycle, and be reported who knows when.
            del handle

    def _busy_line(self, handle: events.Handle) -> str:
        """Where the task of a callback stands, else any task, as " (file:line)"."""
        task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
        tasks = (
            [task, *self._tasks.values()]
            if isinstance(task, asyncio.Task)
            else self._tasks.values()
        )
        lines = [line for task in tasks if not task.done() and (line := _standing(task))]
        return f" ({lines[0]})" if lines else ""

    def evict(self) -> None:
        """Unwind every task without being heard; the loop is of no use after it."""
        self.evicting = True
        self._ready.clear()
        self.within(unwind, self._tasks.values(), self._generators)
        self._tasks.clear()
        self._generators.clear()
        self._ready.clear()

    # -- what asyncio calls ----------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> events.Handle:
        self.check()
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.check()
        delay = when - self._now
        if delay <= 0:
            due = asyncio.TimerHandle(when, callback, args, self, context)
            self._ready.append(due)
            return due
        timer = DurableTimer(when, callback, args, self, context)
        timer.empty = delay < _EMPTY_TIMER_S
        self._count_empty(timer)
        self._driver.start_timer(timer, timedelta(seconds=delay))
        return timer

    def _count_empty(self, timer: DurableTimer) -> None:
        self._empty_timers = self._empty_timers + 1 if timer.empty else 0
        if self._empty_timers > MAX_EMPTY_TIMERS:
            self._refused = WorkflowBlockedError(
                f"the workflow started {MAX_EMPTY_TIMERS:,} timers of no length in a row"
                f"{_location()}",
                hint="wait for what you need with a signal, or sleep for a second or more",
            )

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, DurableTimer) and not self.evicting:
            self._driver.cancel_timer(handle)

    def create_future(self) -> asyncio.Future[Any]:
        return CountedFuture(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_ignored: Any,
    ) -> CountedTask:
        if self.evicting:
            coro.close()
        task = CountedTask(coro, loop=self, name=name, context=context)
        self._tasks[task._number] = task
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.evicting:
            self.unhandled.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    async def shutdown_asyncgens(self) -> None:
        """Generators live as long as their run."""

    def check(self) -> None:
        """Raise `RunEvicted` once the run is let go."""
        if self.evicting and self._refusals < MAX_REFUSALS:
            self._refusals += 1
            raise RunEvicted

    def _prune(self) -> None:
        if len(self._tasks) > self._prune_at:
            self._tasks = {n: task for n, task in self._tasks.items() if not task.done()}
            self._generators = [g for g in self._generators if g.ag_frame is not None]
            self._prune_at = max(64, 2 * len(self._tasks))


@contextlib.contextmanager
def kept_generators(generators: list[Any]) -> Iterator[None]:
    """Async generators that start here are kept in the list, and not run on when dropped."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=generators.append, finalizer=_forget)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)


def unwind(tasks: Iterable[asyncio.Task[Any]], generators: Iterable[Any]) -> None:
    """Throw `RunEvicted` into every task that is not done, in this order, then into generators."""
    for task in list(tasks):
        if not task.done():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if coroutine is not None:
                _unwind(coroutine, coroutine.throw)
    for generator in list(generators):
        _unwind(generator, _thrower(generator))


def _unwind(code: Any, throw: Callable[[BaseException], Any]) -> None:
    """Throw until the coroutine is finished; one that awaits again is told again."""
    for _ in range(_MAX_THROWS):
        try:
            throw(RunEvicted())
        except BaseException:
            return
    _leave_standing(code)


def _leave_standing(code: Any) -> None:
    """Never free a coroutine that cannot be unwound: that would run its endless code once more,
    at the latest when Python ends."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))


def _thrower(generator: Any) -> Callable[[BaseException], Any]:
    return lambda error: generator.athrow(error).send(None)


def _forget(generator: Any) -> None:
    """An async generator that is dropped is not run on: the loop holds all that matter."""


def _standing(task: asyncio.Task[Any]) -> str:
    """The workflow's own line at which a task waits, as "file:line"; "" where there is none."""
    waiting: Any = task.get_coro()
    line = ""
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        if not frame.f_globals.get("__name__", "").startswith(_MACHINERY):
            line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        waiting = waiting.cr_await
    return line


def _location() -> str:
    found = user_location(2)
    return f" ({found})" if found else ""


_warn_unawaited = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]


def _warn_unless_evicting(coroutine: Any) -> None:
    """Code that is let go makes coroutines in its `finally` which it cannot await any more."""
    loop = events._get_running_loop()
    if not (isinstance(loop, NumberingLoop) and loop.evicting):
        _warn_unawaited(coroutine)


warnings._warn_unawaited_coroutine = _warn_unless_evicting  # type: ignore[attr-defined]


def user_location(depth: int = 1) -> str | None:
    """ "file:line" of the innermost frame that is neither asyncio's nor ours; `None` if none is.

    The search ends at the loop, below which there is no workflow code.
    """
    frame = sys._getframe(depth)
    while frame is not None and frame.f_code is not _RUN_CALLBACKS:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(_MACHINERY):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


_MACHINERY = ("asyncio", "belugawf.", "concurrent.", "temporalio.", "threading")
_RUN_CALLBACKS = DeterministicLoop._run_callbacks.__code__


def _copy(function: FunctionType) -> FunctionType:
    copied = FunctionType(function.__code__, function.__globals__, function.__name__)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


_as_completed = _copy(cast(FunctionType, asyncio.as_completed))


def _ordered_as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """`asyncio.as_completed`; on a deterministic loop its tasks start in the order given."""
    is_one = asyncio.isfuture(fs) or asyncio.iscoroutine(fs)
    if isinstance(events._get_running_loop(), NumberingLoop) and not is_one:
        fs = [asyncio.ensure_future(awaitable) for awaitable in dict.fromkeys(fs)]
    return _as_completed(fs, timeout=timeout)


def _new_as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    from belugawf.replay.loop import _ordered_as_completed  # runs with asyncio's globals

    return _ordered_as_completed(fs, timeout=timeout)


# Its code is replaced and not the name, because modules may have imported the name before.
cast(FunctionType, asyncio.as_completed).__code__ = _new_as_completed.__code__
