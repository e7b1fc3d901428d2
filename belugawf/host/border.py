"""The one door to user code: whatever comes out of it is a value, or the problem of its run.

`Border.turn` runs a run's workflow code, `Border.evict` lets it go, `call` calls any other small
piece of user code: a hook, a log handler, a module's import. Each of them guarantees:

* No exception of user code passes, whatever its class. KeyboardInterrupt, SystemExit and the like
  that code raises itself are exceptions as others are. Only a SIGINT that the operating system
  delivered goes on, as KeyboardInterrupt, once the code is out. `interrupts` is how we know: it
  puts itself around the handler that it finds.
* What user code sets in a context variable is seen by nobody else. A run begins in a copy of one
  base context, each call in one of its own.
* It ends (`host.guard`) and does not touch the world (`host.forbidding`), if it is workflow code.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from asyncio import unix_events
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar, TypeVarTuple, Unpack

from belugawf.authoring.failures import in_one_line, is_a, own_attribute
from belugawf.host.guard import Counting, TurnGuard
from belugawf.host.reaper import ENDING_SIGNALS
from belugawf.model.errors import BelugaError, TurnError
from belugawf.model.shortage import shortage
from belugawf.model.values import frozen

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")

logger = logging.getLogger("belugawf.engine")


class UnexpectedError(TurnError):
    """A turn failed in our own code: whatever the user's raises belongs to its run."""

    code = "internal"
    exit_code = 1


@frozen()
class Raised:
    """What a piece of user code raised instead of returning something."""

    error: BaseException


class Evictable(Counting, Protocol):
    """A run in memory."""

    def evict(self) -> None: ...

    def abandon(self) -> None: ...


class Border:
    """The door for one engine's workflow code. `context` is what its runs begin in a copy of."""

    def __init__(self, context: Context | None = None) -> None:
        self._context = Context() if context is None else context
        self._guard = TurnGuard()

    def new_context(self) -> Context:
        """What a run, or an attempt, begins in."""
        return self._context.copy()

    def turn(self, counting: Counting, work: Callable[[], T]) -> T:
        """What `work` returns, which runs a run's code under watch.

        Raises `TurnError` (`WorkflowBlockedError` if it takes long), other errors of ours that
        `work` raises, and KeyboardInterrupt if that was a real one: then the run's memory is ahead
        of its history, and must be thrown away.
        """
        delivered = _delivered
        try:
            result = self._guard.run(counting, work)
        except BelugaError:
            if _was_interrupted(delivered, counting.interrupted):
                raise KeyboardInterrupt from None
            raise
        except BaseException as error:
            if _was_interrupted(delivered, is_a(error, KeyboardInterrupt)):
                raise KeyboardInterrupt from None
            short = shortage(error)
            if short is not None:
                raise short from error
            log(logging.ERROR, "a bug in belugawf", error=error)
            raise UnexpectedError(f"a bug in belugawf: {in_one_line(error)}") from error
        if (counting.interrupted or _delivered != delivered) and _was_interrupted(
            delivered, raised=True
        ):
            raise KeyboardInterrupt
        return result

    def evict(self, run: Evictable) -> None:
        """Let a run go from memory.

        Code that cannot be unwound in time is left as it stands, and said. Raises KeyboardInterrupt
        if that was a real one; the run is gone all the same.
        """
        try:
            self.turn(run, run.evict)
        except BaseException as error:
            run.abandon()
            if not is_a(error, BelugaError):
                raise
            log(logging.WARNING, "letting a run go from memory: %s", error)

    def close(self) -> None:
        """Nothing is watched any more."""
        self._guard.close()


def call(
    code: Callable[[Unpack[_Ts]], T], *args: *_Ts, context: Context | None = None
) -> T | Raised:
    """What the code returns, or `Raised`; it runs in a copy of `context`, by default an empty one.

    Raises nothing but KeyboardInterrupt, if that was a real one.
    """
    delivered = _delivered
    own = Context() if context is None else context.copy()
    own.run(mark_as_users)
    answer: T | Raised
    try:
        answer = own.run(code, *args)
    except BaseException as error:
        if _was_interrupted(delivered, is_a(error, KeyboardInterrupt)):
            raise KeyboardInterrupt from None
        return Raised(error)
    if _delivered != delivered and _was_interrupted(delivered, raised=True):
        raise KeyboardInterrupt
    return answer


_is_users: ContextVar[bool] = ContextVar("belugawf_users", default=False)
# What runs in this context from now on is user code, and not ours.
mark_as_users = partial(_is_users.set, True)


def is_users() -> bool:
    """Whether user code is running: what was called through here, or has marked its context."""
    return _is_users.get()


def log(level: int, message: str, *args: object, error: BaseException | None = None) -> None:
    """Log a line of the engine's. Who handles it is the user's, and may raise anything."""
    call(partial(logger.log, level, message, *args, exc_info=error))


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception that was just caught is what a real signal has raised."""
    if not is_a(error, KeyboardInterrupt) or not _in_main_thread():
        return False
    if type(error) is Signalled or _REAL in own_attribute(error, "__dict__"):
        return True
    return _raises_unknown(signal.getsignal(signal.SIGINT))


# -- SIGINT --------------------------------------------------------------------------------------

# What marks a KeyboardInterrupt that a handler of ours has seen.
_REAL = "_belugawf_real"
# How many SIGINTs have been raised as KeyboardInterrupt. Only the main thread handles signals.
_delivered = 0


class _Handler:
    """Around somebody else's handler of SIGINT, for as long as it has users."""

    def __init__(self, found: Callable[..., Any]) -> None:
        self.found = found
        self.users = 0

    def __call__(self, number: int, frame: Any) -> Any:
        global _delivered
        try:
            return self.found(number, frame)
        except KeyboardInterrupt as error:
            _delivered += 1
            own_attribute(error, "__dict__")[_REAL] = True
            raise


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Meanwhile a real SIGINT can be told from a KeyboardInterrupt that code raises.

    For the main thread: in others nothing happens, nor if no function of Python's handles
    SIGINT. The handler that was found is put back at the end, unless somebody has set another.
    """
    handler = _install()
    try:
        yield
    finally:
        if handler is not None:
            handler.users -= 1
            current: Any = signal.getsignal(signal.SIGINT)
            if current is handler and not handler.users:
                signal.signal(signal.SIGINT, handler.found)


class Signalled(KeyboardInterrupt):
    """A signal has come that an event loop was to answer; `number` is which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Meanwhile SIGINT, SIGTERM and SIGHUP raise `Signalled`, where an event loop answers them.

    For user code on the main thread that may keep that loop from running, in a process of our own.
    Code that goes on all the same is ended by the next signal, as by the system. The loop is told
    too, once it runs.
    """
    found = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    found = {number: handler for number, handler in found.items() if _is_a_loops(handler)}
    for number in found:
        signal.signal(number, _raise_once)
    try:
        yield
    finally:
        for number, handler in found.items():
            if signal.getsignal(number) in (_raise_once, signal.SIG_DFL):
                signal.signal(number, handler)
                signal.siginterrupt(number, False)  # as asyncio does it


def _is_a_loops(handler: Any) -> bool:
    if isinstance(handler, _Handler):
        handler = handler.found
    return handler is unix_events._sighandler_noop  # type: ignore[attr-defined]


def _raise_once(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise Signalled(number)


def _install() -> _Handler | None:
    if not _in_main_thread():
        return None
    found = signal.getsignal(signal.SIGINT)
    if isinstance(found, _Handler):
        handler = found
    elif callable(found):
        handler = _Handler(found)
        signal.signal(signal.SIGINT, handler)
    else:
        return None
    handler.users += 1
    return handler


def _in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _was_interrupted(delivered: int, raised: bool) -> bool:
    """Whether a real SIGINT has come since so many were delivered.

    `raised`: a KeyboardInterrupt was. If another handler than ours was set meanwhile, it may
    have raised it; asyncio's for `add_signal_handler` never does.
    """
    if not _in_main_thread():
        return False
    if _delivered != delivered:
        return True
    if not raised:
        return False
    return _raises_unknown(signal.getsignal(signal.SIGINT))


def _raises_unknown(handler: Any) -> bool:
    """Whether a handler of SIGINT may have raised a KeyboardInterrupt that we do not know of."""
    known = isinstance(handler, _Handler) or handler is unix_events._sighandler_noop  # type: ignore[attr-defined]
    return callable(handler) and not known
