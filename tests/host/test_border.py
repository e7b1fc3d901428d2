"""The door to user code: what comes out is a value, and it comes out in time."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any

import pytest

from belugawf.host import border as borders, forbidding, guard
from belugawf.host.border import Border, Raised, UnexpectedError, call, interrupts
from belugawf.model.errors import (
    CodeInterrupted,
    NondeterminismError,
    UsageError,
    WorkflowBlockedError,
)


class Counted:
    """What is watched."""

    applied = 0
    interrupted = False


@pytest.fixture
def border() -> Iterator[Border]:
    border = Border()
    yield border
    border.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are a tenth."""
    monkeypatch.setattr(guard, "LIMIT_S", 0.2)
    monkeypatch.setattr(guard, "LIMIT_IN_TICKS_S", 1.0)
    monkeypatch.setattr(guard, "_TICK_S", 0.02)


ODD = [
    *(ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration),
    *(asyncio.CancelledError, MemoryError, RecursionError, UsageError),
]


def raising(error: type[BaseException]) -> Callable[[], Any]:
    def code() -> None:
        raise error("it")

    return code


@pytest.mark.parametrize("error", ODD)
def test_what_a_call_raises_is_a_value(error: type[BaseException]) -> None:
    """Whatever its class, also a KeyboardInterrupt of its own."""  # FINDINGS B2, B3
    with interrupts():
        answer = call(raising(error))
    assert isinstance(answer, Raised)
    assert type(answer.error) is error
    assert call(max, 1, 2) == 2


@pytest.mark.parametrize("error", ODD)
def test_what_a_turn_raises_is_ours(border: Border, error: type[BaseException]) -> None:
    """Errors of ours go through; others are our bug, and stop no engine."""  # FINDINGS B3
    expected = UsageError if error is UsageError else UnexpectedError
    with interrupts(), pytest.raises(expected):
        border.turn(Counted(), raising(error))
    assert border.turn(Counted(), lambda: 5) == 5


@pytest.mark.parametrize("error", [*ODD, NondeterminismError])
@pytest.mark.usefixtures("quick")
def test_eviction_never_fails(border: Border, error: type[BaseException]) -> None:
    """What cannot be unwound is abandoned."""
    done: list[str] = []

    class Run(Counted):
        def evict(self) -> None:
            raising(error)()

        def abandon(self) -> None:
            done.append("abandoned")

    with interrupts():
        border.evict(Run())
    assert done == ["abandoned"]


def test_a_real_interrupt_in_an_eviction(border: Border) -> None:
    """It goes on, and the run is gone all the same."""  # FINDINGS B3
    done: list[str] = []

    class Run(Counted):
        def evict(self) -> None:
            interrupt()

        def abandon(self) -> None:
            done.append("abandoned")

    with interrupts(), pytest.raises(KeyboardInterrupt):
        border.evict(Run())
    assert done == ["abandoned"]


# -- contexts ------------------------------------------------------------------------------------

variable: ContextVar[str] = ContextVar("variable", default="default")


def test_contexts() -> None:
    """A call sees the given context, by default nothing, and changes none."""  # FINDINGS B5

    def code() -> str:
        found = variable.get()
        variable.set("code")
        decimal.getcontext().prec = 3
        return found

    base = Context()
    base.run(variable.set, "base")
    precision = decimal.getcontext().prec
    variable.set("engine")
    assert call(code) == "default"
    assert [call(code, context=base) for _ in range(2)] == ["base"] * 2
    assert (variable.get(), decimal.getcontext().prec) == ("engine", precision)
    border = Border(base)
    assert [border.new_context().run(code) for _ in range(2)] == ["base"] * 2
    assert Border().new_context().run(variable.get) == "default"


# -- SIGINT --------------------------------------------------------------------------------------


def interrupt() -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)


def swallowing() -> str:
    with contextlib.suppress(BaseException):
        interrupt()
    return "swallowed"


@pytest.mark.parametrize("code", [interrupt, swallowing])
def test_a_real_interrupt_goes_on(border: Border, code: Callable[[], Any]) -> None:
    """Out of turns and calls, also where the code swallows it."""  # FINDINGS B3
    with interrupts():
        with pytest.raises(KeyboardInterrupt):
            border.turn(Counted(), code)
        with pytest.raises(KeyboardInterrupt):
            call(code)
        assert call(max, 1, 2) == 2


def test_the_handler_is_put_back() -> None:
    """Once the last user has gone; not over one that somebody has set since."""
    found = signal.getsignal(signal.SIGINT)
    try:
        first, second = interrupts(), interrupts()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert signal.getsignal(signal.SIGINT) is not found
        second.__exit__(None, None, None)
        assert signal.getsignal(signal.SIGINT) is found
        with interrupts():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, found)


def test_other_threads_meet_no_signals(border: Border) -> None:
    """There every KeyboardInterrupt is the code's own, and nothing is installed."""
    answers: list[Any] = []

    def work() -> None:
        with interrupts():
            answers.append(call(raising(KeyboardInterrupt)))
            with contextlib.suppress(UnexpectedError):
                border.turn(Counted(), raising(KeyboardInterrupt))
            answers.append("went on")

    found = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is found
    assert isinstance(answers[0], Raised)
    assert answers[1] == "went on"


def test_without_knowing_it_counts_as_real() -> None:
    """Nobody has installed `interrupts`: rather stop than fail a run for a Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        call(raising(KeyboardInterrupt))


def test_beside_asyncios_handlers() -> None:
    """What `add_signal_handler` has set raises nothing: it is the code's own."""

    async def code() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        try:
            assert isinstance(call(raising(KeyboardInterrupt)), Raised)
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    found = signal.getsignal(signal.SIGINT)
    try:
        asyncio.run(code())
    finally:
        signal.signal(signal.SIGINT, found)


# -- time ----------------------------------------------------------------------------------------


def spin() -> None:
    while True:
        pass


def spin_again() -> None:
    for _ in range(2):
        with contextlib.suppress(BaseException):
            spin()
    spin()


def spin_in_finally() -> None:
    try:
        spin()
    finally:
        spin()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("code", [spin, spin_again, spin_in_finally])
def test_a_turn_ends(border: Border, code: Callable[[], Any]) -> None:
    """Whatever it catches once; the line is named, and the next turn is as any."""
    with pytest.raises(WorkflowBlockedError) as caught:
        border.turn(Counted(), code)
    assert f"{__file__}:" in caught.value.message
    assert not forbidding._deciding
    for _ in range(3):
        assert border.turn(Counted(), lambda: sum(range(10_000))) == 49_995_000


@pytest.mark.usefixtures("quick")
def test_waiting_costs_no_processor_time(border: Border) -> None:
    """It has five times as long."""
    border.turn(Counted(), lambda: time.sleep(0.5))
    with pytest.raises(WorkflowBlockedError):
        border.turn(Counted(), lambda: [time.sleep(0.01) for _ in range(1000)])


@pytest.mark.usefixtures("quick")
def test_each_fact_has_its_own_time(border: Border) -> None:
    """A replay of many facts is no long turn."""
    counted = Counted()

    def work() -> None:
        began = time.process_time()
        while time.process_time() - began < 0.6:
            sum(range(1000))
            counted.applied += 1

    border.turn(counted, work)


STOPPED = """
import os, signal, sys, threading, time
from belugawf.host import guard
from belugawf.host.border import Border

guard.LIMIT_IN_TICKS_S = 5.0

class Counted:
    applied = 0
    interrupted = False

def work():
    began = time.thread_time()
    print("begun", flush=True)
    while time.thread_time() - began < 0.2:
        pass
    return "done"

print(Border().turn(Counted(), work))
"""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [KeyError, SystemExit, RecursionError, UsageError])
def test_what_comes_of_an_interrupted_turn_is_of_no_use(
    border: Border, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """It may have been interrupted within our own code: that makes no bug of it."""  # FINDINGS B8

    def code() -> None:
        try:
            while True:
                pass
        except CodeInterrupted:
            raise error("in the middle") from None

    with pytest.raises(WorkflowBlockedError):
        border.turn(Counted(), code)
    assert not caplog.records


def test_a_stopped_process_has_blocked_nothing() -> None:
    """SIGSTOP within a turn, for longer than all limits."""  # FINDINGS B8
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(6)  # longer than the limit, by real clocks: it is stopped meanwhile
    child.send_signal(signal.SIGCONT)
    out, err = child.communicate(timeout=30)
    assert out == "done\n", err


IN_C = """
import sys
from belugawf.host import guard
from belugawf.host.border import Border

guard.LIMIT_IN_TICKS_S = 0.5

class Counted:
    applied = 0
    interrupted = False

def work():
    return sum(range(10**8))  # it keeps Python's lock

try:
    Border().turn(Counted(), work)
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.usefixtures("quick")
def test_what_is_said_of_a_long_call_holds_up_no_turn(border: Border) -> None:
    """A handler of that line may wait for what only comes when turns are over."""
    over = threading.Event()
    waited: list[bool] = []

    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            waited.append(over.wait(5))

    handler = Waiting()
    logging.getLogger("belugawf.engine").addHandler(handler)
    try:
        with pytest.raises(WorkflowBlockedError):
            border.turn(Counted(), lambda: time.sleep(3))
        over.set()
        deadline = time.monotonic() + 20
        while not waited and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        logging.getLogger("belugawf.engine").removeHandler(handler)
    assert waited == [True]


def test_a_long_call_into_c_is_shown() -> None:
    """Its line goes to stderr while it lasts, also where it keeps Python's lock."""  # FINDINGS B8
    done = subprocess.run(
        [sys.executable, "-c", IN_C], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Timeout" in done.stderr
    assert "line 13 in work" in done.stderr


@pytest.mark.usefixtures("quick")
def test_eviction_ends(border: Border, caplog: pytest.LogCaptureFixture) -> None:
    """Code that spins while it is let go is left standing, and its line is said."""  # B10
    from belugawf import WorkflowContext
    from tests.replay.driving import Run

    async def code(ctx: WorkflowContext) -> None:
        async def one() -> None:
            try:
                await ctx.wait_for_signal("go")
            finally:
                while True:
                    pass

        await asyncio.gather(*(one() for _ in range(300)))

    run = Run(code)
    began = time.process_time()
    border.evict(run.replayer)
    assert time.process_time() - began < 1.5
    assert f"{__file__}:" in caplog.text
    assert run.replayer._loop._tasks == {}


def test_eviction_of_a_loop_over_the_context(border: Border) -> None:
    """Every question to the context is refused there, at once."""  # FINDINGS B10
    from belugawf import WorkflowContext
    from tests.replay.driving import Run

    async def code(ctx: WorkflowContext) -> None:
        try:
            await ctx.wait_for_signal("go")
        finally:
            while not ctx.cancel_requested:
                pass

    run = Run(code)
    began = time.process_time()
    border.evict(run.replayer)
    assert time.process_time() - began < 0.2


def test_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupts that signals have raised, and no others."""
    before = borders._delivered
    with interrupts():
        with contextlib.suppress(KeyboardInterrupt):
            raise KeyboardInterrupt
        assert borders._delivered == before
        with contextlib.suppress(KeyboardInterrupt):
            interrupt()
        assert borders._delivered == before + 1
