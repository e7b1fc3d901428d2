"""The pure turn: what has happened goes in, events come out, as lists.

There is no database, clock or thread here. Events are written as `brief` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from belugawf import (
    ActivityError,
    RetryPolicy,
    SignalTimeoutError,
    WorkflowContext,
    activity,
)
from belugawf.model import events as e
from belugawf.model.errors import DamagedError
from tests.local.turning import (
    Begin,
    Cancel,
    Example,
    Held,
    Kept,
    PickUp,
    Signal,
    Turn,
    completed,
    failed,
    interrupted,
    ns,
    timed_out,
)

# -- workflows -----------------------------------------------------------------------------------

TWICE = RetryPolicy(max_attempts=2, initial_delay=10, jitter=0)
OFTEN = RetryPolicy(max_attempts=9, initial_delay=10, jitter=0, non_retryable=["TypeError"])


@activity
async def work() -> None: ...


@activity(at_most_once=True)
async def pay() -> None: ...


async def one(ctx: WorkflowContext, function: Any = work, **options: Any) -> Any:
    """One activity, with these options."""
    return await ctx.execute_activity(function, **options)


async def caught(ctx: WorkflowContext, function: Any = work, **options: Any) -> str:
    """The same, whatever becomes of it, and then a wait."""
    with suppress(ActivityError):
        await ctx.execute_activity(function, **options)
    await ctx.wait_for_signal("go")
    return "caught"


async def two(ctx: WorkflowContext) -> None:
    await asyncio.gather(ctx.execute_activity(work), ctx.execute_activity(work))


async def sleeping(ctx: WorkflowContext, lengths: Sequence[float]) -> None:
    for length in lengths:
        await asyncio.sleep(length)


async def side_by_side(ctx: WorkflowContext, lengths: Sequence[float]) -> None:
    await asyncio.gather(*map(asyncio.sleep, lengths))


async def waiting(ctx: WorkflowContext) -> Any:
    return (await ctx.wait_for_signal("go")).payload


async def approval(ctx: WorkflowContext) -> str:
    try:
        await ctx.wait_for_signal("go", timeout=10)
    except SignalTimeoutError:
        return "too late"
    return "in time"


async def done_or_late(ctx: WorkflowContext, then: float = 1) -> str:
    """An activity that may take ten seconds, and a second in which more may come."""
    try:
        async with asyncio.timeout(10):
            await ctx.execute_activity(work)
        how = "done"
    except TimeoutError:
        how = "late"
    await asyncio.sleep(then)
    return how


async def first_of(ctx: WorkflowContext) -> str:
    """Which of a signal, an activity and a timer comes first."""
    tasks = {
        "signal": asyncio.create_task(ctx.wait_for_signal("go")),
        "activity": asyncio.create_task(ctx.execute_activity(work)),
        "timer": asyncio.create_task(asyncio.sleep(10)),
    }
    await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
    return next(name for name, task in tasks.items() if task.done())


async def tidy(ctx: WorkflowContext) -> None:
    try:
        await ctx.execute_activity(work)
    except asyncio.CancelledError:
        await ctx.execute_activity(work)
        raise


async def stubborn(ctx: WorkflowContext) -> str:
    with suppress(asyncio.CancelledError):
        await ctx.execute_activity(work)
    await ctx.wait_for_signal("go")
    return "went on"


async def reminding_beside_a_clock(ctx: WorkflowContext) -> str:
    clock = asyncio.create_task(asyncio.sleep(40))
    await asyncio.sleep(0)
    answer = await reminding(ctx)
    await clock
    return answer


async def caught_after_sleep(ctx: WorkflowContext) -> None:
    await asyncio.sleep(10)
    with suppress(ActivityError):
        await ctx.execute_activity(work)


async def asked_in_vain(ctx: WorkflowContext) -> str:
    waiting = asyncio.create_task(ctx.wait_for_signal("go"))
    working = asyncio.create_task(ctx.execute_activity(work))
    await waiting
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return "in vain"


async def broken(ctx: WorkflowContext) -> None:
    raise KeyError("x")


async def reminding(ctx: WorkflowContext) -> str:
    """Sends a reminder when it was asked in vain for ten seconds; gives up after another ten."""
    async with asyncio.timeout(20):
        try:
            await ctx.wait_for_signal("go", timeout=10)
        except SignalTimeoutError:
            await ctx.execute_activity(work)
            await ctx.wait_for_signal("go")
    return "answered"


# -- examples ------------------------------------------------------------------------------------

ASKED = Turn(0, [], ["ActivityScheduled 1"])
INTERRUPTED = ["ActivityFailed 1 Interrupted after 1"]


ORDER = [
    Example("the first turn asks for what the code asks for", one, [ASKED]),
    Example(
        "a result is told, and ends the run",
        one,
        [ASKED, Turn(5, [completed(5, 1)], ["ActivityCompleted 1", "WorkflowCompleted null"])],
    ),
    Example(
        "nothing has happened",
        one,
        [ASKED, Turn(5)],
    ),
    Example(
        "the commands of a fact come before the next fact",
        partial(sleeping, lengths=(1, 1)),
        [
            Turn(0, [], ["TimerStarted 1 until 1"]),
            Turn(
                1,
                [Signal(1), Signal(1)],
                [
                    "SignalReceived go",
                    "SignalReceived go",
                    "TimerFired 1",
                    "TimerStarted 2 until 2",
                ],
            ),
        ],
    ),
    Example(
        "a signal waits until it is asked for",
        caught,
        [
            ASKED,
            Turn(1, [Signal(1)], ["SignalReceived go"]),
            Turn(2, [completed(2, 1)], ["ActivityCompleted 1", 'WorkflowCompleted "caught"']),
        ],
    ),
    Example(
        "of one moment a message comes first",
        first_of,
        [
            Turn(0, [], ["WaitStarted 1 go", "ActivityScheduled 2", "TimerStarted 3 until 10"]),
            Turn(
                10,
                [completed(10, 2), Signal(10)],
                [
                    *("SignalReceived go", "WaitEnded 1 received"),
                    *("ActivityCompleted 2 unread", 'WorkflowCompleted "signal"'),
                ],
            ),
        ],
    ),
    Example(
        "of one moment the end of an activity comes before a timer",
        first_of,
        [
            Turn(0, [], ["WaitStarted 1 go", "ActivityScheduled 2", "TimerStarted 3 until 10"]),
            Turn(10, [completed(10, 2)], ["ActivityCompleted 2", 'WorkflowCompleted "activity"']),
        ],
    ),
    Example(
        "of one moment a timer comes before the deadline",
        partial(sleeping, lengths=(10,)),
        [
            Turn(0, [], ["TimerStarted 1 until 10"]),
            Turn(10, [], ["TimerFired 1", "WorkflowCompleted null"]),
        ],
        deadline=10,
    ),
    Example(
        "a cancel is a message, and comes before the end of an activity",
        one,
        [
            ASKED,
            Turn(
                5,
                [completed(5, 1), Cancel(5)],
                ["CancelRequested", "ActivityCancelRequested 1", "WorkflowCancelled"],
            ),
        ],
    ),
    Example(
        "messages of one moment are told in the order of their arrival",
        waiting,
        [
            Turn(0, [], ["WaitStarted 1 go"]),
            Turn(
                3,
                [Signal(2, payload="first"), Signal(2, payload="second")],
                [
                    *("SignalReceived go", "WaitEnded 1 received"),
                    *("SignalReceived go unread", 'WorkflowCompleted "first"'),
                ],
            ),
        ],
    ),
    Example(
        "activities that ended at one moment are told by their number",
        two,
        [
            Turn(0, [], ["ActivityScheduled 1", "ActivityScheduled 2"]),
            Turn(
                5,
                [completed(4, 2), completed(4, 1)],
                ["ActivityCompleted 1", "ActivityCompleted 2", "WorkflowCompleted null"],
            ),
        ],
    ),
    Example(
        "what ended first is told first, whatever was heard first",
        two,
        [
            Turn(0, [], ["ActivityScheduled 1", "ActivityScheduled 2"]),
            Turn(
                5,
                [completed(4, 1), completed(3, 2)],
                ["ActivityCompleted 2", "ActivityCompleted 1", "WorkflowCompleted null"],
            ),
        ],
    ),
    Example(
        "timers fire in the order in which they were due, and then by their number",
        partial(side_by_side, lengths=(10, 5, 10)),
        [
            Turn(
                0,
                [],
                ["TimerStarted 1 until 10", "TimerStarted 2 until 5", "TimerStarted 3 until 10"],
            ),
            Turn(
                25, [], ["TimerFired 2", "TimerFired 1", "TimerFired 3", "WorkflowCompleted null"]
            ),
        ],
    ),
    Example(
        "an approval that came in time counts, though it is found late",
        approval,
        [
            Turn(0, [], ["WaitStarted 1 go", "TimerStarted 2 until 10"]),
            PickUp(30),
            Turn(
                30,
                [Signal(5)],
                [
                    *("SignalReceived go", "TimerCancelled 2", "WaitEnded 1 received"),
                    'WorkflowCompleted "in time"',
                ],
            ),
        ],
    ),
    Example(
        "an approval that came too late does not count, though both are found together",
        approval,
        [
            Turn(0, [], ["WaitStarted 1 go", "TimerStarted 2 until 10"]),
            PickUp(30),
            Turn(
                30,
                [Signal(12)],
                [
                    *("TimerFired 2", "WaitEnded 1 timed_out", "SignalReceived go unread"),
                    'WorkflowCompleted "too late"',
                ],
            ),
        ],
    ),
    Example(
        "an activity that ended in time counts, though it is heard of late",
        done_or_late,
        [
            Turn(0, [], ["TimerStarted 1 until 10", "ActivityScheduled 2"]),
            Turn(
                30,
                [completed(9, 2)],
                ["ActivityCompleted 2", "TimerCancelled 1", "TimerStarted 3 until 31"],
            ),
            Turn(31, [], ["TimerFired 3", 'WorkflowCompleted "done"']),
        ],
    ),
    Example(
        "a result that comes after its activity was given up is nothing",
        done_or_late,
        [
            Turn(0, [], ["TimerStarted 1 until 10", "ActivityScheduled 2"]),
            Turn(
                30,
                [completed(11, 2)],
                ["TimerFired 1", "ActivityCancelRequested 2", "TimerStarted 3 until 31"],
            ),
            Turn(31, [], ["TimerFired 3", 'WorkflowCompleted "late"']),
        ],
    ),
    Example(
        "a sleep counts from when the one before it was over",
        partial(sleeping, lengths=(10, 5)),
        [
            Turn(0, [], ["TimerStarted 1 until 10"]),
            Turn(25, [], ["TimerFired 1", "TimerStarted 2 until 30"]),
            Turn(29),
            Turn(30, [], ["TimerFired 2", "WorkflowCompleted null"]),
        ],
    ),
    Example(
        "a clock that goes back moves no event back, and a sleep takes its time",
        partial(sleeping, lengths=(10, 10)),
        [
            Turn(0, [], ["TimerStarted 1 until 10"]),
            Turn(10, [], ["TimerFired 1", "TimerStarted 2 until 20"]),
            Turn(3, [Signal(3)], ["SignalReceived go"]),
            Turn(20, [], ["TimerFired 2", "WorkflowCompleted null"]),
        ],
    ),
    Example(
        "a sleep of no length is no timer",
        partial(sleeping, lengths=(1, 1e-9, 1)),
        [
            Turn(0, [], ["TimerStarted 1 until 1"]),
            Turn(1, [], ["TimerFired 1", "TimerStarted 2 until 2"]),
        ],
    ),
]

RETRIES = [
    Example(
        "a failure that is tried again is not told",
        partial(one, retry=OFTEN),
        [ASKED, Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"])],
    ),
    Example(
        "the next delay is longer",
        partial(one, retry=OFTEN),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            Turn(14, [Begin(1)], ["AttemptStarted 1 #2"]),
            Turn(15, [failed(15, 1, attempt=2)], ["AttemptFailed 1 #2 again at 35"]),
        ],
    ),
    Example(
        "a retry that fell due changes nothing until it begins",
        partial(one, retry=TWICE),
        [ASKED, Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]), Turn(14)],
    ),
    Example(
        "the last failure is told, with how many there were",
        partial(one, retry=TWICE),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            Turn(14, [Begin(1)], ["AttemptStarted 1 #2"]),
            Turn(
                16,
                [failed(16, 1, attempt=2)],
                ["ActivityFailed 1 ValueError after 2", "WorkflowFailed ActivityError"],
            ),
        ],
    ),
    Example(
        "an attempt after a failure may succeed",
        partial(one, retry=TWICE),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            Turn(14, [Begin(1)], ["AttemptStarted 1 #2"]),
            Turn(
                16,
                [completed(16, 1, attempt=2)],
                ["ActivityCompleted 1 #2", "WorkflowCompleted null"],
            ),
        ],
    ),
    Example(
        "without a policy there is one attempt",
        caught,
        [
            ASKED,
            Turn(5, [failed(5, 1)], ["ActivityFailed 1 ValueError after 1", "WaitStarted 2 go"]),
        ],
    ),
    Example(
        "a type that the policy names is not tried again",
        partial(caught, retry=OFTEN),
        [
            ASKED,
            Turn(
                5,
                [failed(5, 1, "TypeError")],
                ["ActivityFailed 1 TypeError after 1", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "a failure that says so is not tried again",
        partial(caught, retry=OFTEN),
        [
            ASKED,
            Turn(
                5,
                [failed(5, 1, non_retryable=True)],
                ["ActivityFailed 1 ValueError after 1", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "a failure may say when it is to be tried again",
        partial(caught, retry=OFTEN),
        [
            ASKED,
            Turn(
                5,
                [failed(5, 1, retry_after=timedelta(seconds=60))],
                ["AttemptFailed 1 #1 again at 65"],
            ),
        ],
    ),
    Example(
        "the end of an earlier attempt is nothing",
        partial(one, retry=OFTEN),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            Turn(14, [Begin(1)], ["AttemptStarted 1 #2"]),
            Turn(15, [completed(15, 1, attempt=1)]),
        ],
    ),
    Example(
        "an end that is on disk already counts once",
        partial(one, retry=OFTEN),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            Turn(6, [failed(4, 1)]),
        ],
    ),
    Example(
        "what has ended does not begin",
        two,
        [
            Turn(0, [], ["ActivityScheduled 1", "ActivityScheduled 2"]),
            PickUp(3),
            Turn(5, [Begin(1), Kept(completed(5, 1))], ["ActivityCompleted 1"]),
        ],
    ),
]

LIMITS = [
    Example(
        "an attempt that took too long is tried again",
        partial(caught, retry=TWICE, timeout=5),
        [ASKED, Turn(5, [timed_out(5, 1)], ["AttemptFailed 1 #1 again at 15"])],
    ),
    Example(
        "the last attempt that took too long is told as that",
        partial(caught, timeout=5),
        [
            ASKED,
            Turn(5, [timed_out(5, 1)], ["ActivityTimedOut 1 timeout at 5", "WaitStarted 2 go"]),
        ],
    ),
    Example(
        "an attempt that fell silent is tried again",
        partial(caught, retry=TWICE, heartbeat_timeout=5),
        [
            ASKED,
            Turn(5, [timed_out(5, 1, "heartbeat_timeout")], ["AttemptFailed 1 #1 again at 15"]),
            Turn(15, [Begin(1)], ["AttemptStarted 1 #2"]),
            Turn(
                20,
                [timed_out(20, 1, "heartbeat_timeout", 2)],
                ["ActivityTimedOut 1 heartbeat_timeout at 20", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "once the total time is over nothing is tried again",
        partial(caught, retry=OFTEN, total_timeout=20),
        [
            ASKED,
            Turn(
                20,
                [timed_out(20, 1, "total_timeout")],
                ["ActivityTimedOut 1 total_timeout at 20", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "a retry that would begin after the total time ends the activity at once",
        partial(caught, retry=OFTEN, total_timeout=12),
        [
            ASKED,
            Turn(
                5,
                [failed(4, 1)],
                ["ActivityTimedOut 1 total_timeout at 4", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "the total time may be over while no attempt runs",
        partial(caught, retry=OFTEN, total_timeout=15),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            PickUp(60),
            Turn(60, [], ["ActivityTimedOut 1 total_timeout at 15", "WaitStarted 2 go"]),
        ],
    ),
    Example(
        "while an attempt runs its total time is not the turn's affair",
        partial(caught, total_timeout=15),
        [ASKED, Turn(60)],
    ),
    Example(
        "an attempt that ended before the total time was over counts, though it is heard of late",
        partial(caught, retry=OFTEN, total_timeout=15),
        [ASKED, Turn(60, [completed(14, 1)], ["ActivityCompleted 1", "WaitStarted 2 go"])],
    ),
]

ONCE = [
    Example(
        "what may run once is noted before it begins",
        partial(caught, function=pay),
        [
            ASKED,
            Turn(0, [Begin(1)], ["AttemptStarted 1 #1"]),
            Turn(5, [completed(5, 1)], ["ActivityCompleted 1", "WaitStarted 2 go"]),
        ],
    ),
    Example(
        "its failure is told at once",
        partial(caught, function=pay),
        [
            ASKED,
            Turn(0, [Begin(1)], ["AttemptStarted 1 #1"]),
            Turn(5, [failed(5, 1)], ["ActivityFailed 1 ValueError after 1", "WaitStarted 2 go"]),
        ],
    ),
    Example(
        "it is over when its process dies in the middle of it",
        partial(caught, function=pay),
        [
            ASKED,
            Turn(0, [Begin(1)], ["AttemptStarted 1 #1"]),
            PickUp(9, died="crash"),
            Turn(
                9,
                [],
                ["AttemptInterrupted 1 #1 crash crashes 1", *INTERRUPTED, "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "it is over when the machine goes down",
        partial(caught, function=pay),
        [
            ASKED,
            Turn(0, [Begin(1)], ["AttemptStarted 1 #1"]),
            PickUp(9, died="reboot"),
            Turn(
                9,
                [],
                ["AttemptInterrupted 1 #1 reboot crashes 0", *INTERRUPTED, "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "it is over when it is stopped",
        partial(caught, function=pay),
        [
            ASKED,
            Turn(0, [Begin(1)], ["AttemptStarted 1 #1"]),
            Turn(
                4,
                [interrupted(4, 1)],
                ["AttemptInterrupted 1 #1 shutdown crashes 0", *INTERRUPTED, "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "it is over when whoever began it has let the run go",
        partial(caught, function=pay),
        [
            ASKED,
            Turn(0, [Begin(1)], ["AttemptStarted 1 #1"]),
            PickUp(9),
            Turn(
                9,
                [],
                ["AttemptInterrupted 1 #1 shutdown crashes 0", *INTERRUPTED, "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "what had not begun when its process died may begin",
        partial(caught, function=pay),
        [ASKED, PickUp(9, died="crash"), Turn(9), Turn(9, [Begin(1)], ["AttemptStarted 1 #1"])],
    ),
]

DEATHS = [
    Example(
        "a first attempt may have been running when its process died",
        one,
        [
            ASKED,
            PickUp(9, died="crash"),
            Turn(9, [], ["AttemptInterrupted 1 #1 crash crashes 1"]),
            Turn(9, [Begin(1)], ["AttemptStarted 1 #2"]),
            Turn(
                10,
                [completed(10, 1, attempt=2)],
                ["ActivityCompleted 1 #2", "WorkflowCompleted null"],
            ),
        ],
    ),
    Example(
        "a machine that goes down does not count against the activity",
        one,
        [
            ASKED,
            PickUp(9, died="reboot"),
            Turn(9, [], ["AttemptInterrupted 1 #1 reboot crashes 0"]),
        ],
    ),
    Example(
        "whoever lets the run go has nothing running",
        one,
        [ASKED, PickUp(9), Turn(9)],
    ),
    Example(
        "what waits for its next attempt was not running",
        partial(one, retry=TWICE),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            PickUp(9, died="crash"),
            Turn(9),
        ],
    ),
    Example(
        "a death uses up no attempt",
        partial(caught, retry=TWICE),
        [
            ASKED,
            PickUp(9, died="crash"),
            Turn(9, [], ["AttemptInterrupted 1 #1 crash crashes 1"]),
            Turn(9, [Begin(1)], ["AttemptStarted 1 #2"]),
            Turn(10, [failed(10, 1, attempt=2)], ["AttemptFailed 1 #2 again at 20"]),
            Turn(20, [Begin(1)], ["AttemptStarted 1 #3"]),
            Turn(
                21,
                [failed(21, 1, attempt=3)],
                ["ActivityFailed 1 ValueError after 2", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "being stopped uses up no attempt, and is no death",
        one,
        [
            ASKED,
            Turn(5, [interrupted(5, 1)], ["AttemptInterrupted 1 #1 shutdown crashes 0"]),
            Turn(6, [Begin(1)], ["AttemptStarted 1 #2"]),
        ],
    ),
    Example(
        "deaths that others shared never end an activity",
        one,
        [
            ASKED,
            PickUp(1, died="crash"),
            Turn(1, [], ["AttemptInterrupted 1 #1 crash crashes 1"]),
            Turn(1, [Begin(1)], ["AttemptStarted 1 #2"]),
            PickUp(2, died="crash"),
            Turn(2, [], ["AttemptInterrupted 1 #2 crash crashes 2"]),
            Turn(2, [Begin(1)], ["AttemptStarted 1 #3"]),
            PickUp(3, died="crash"),
            Turn(3, [], ["AttemptInterrupted 1 #3 crash crashes 2"]),
        ],
    ),
    Example(
        "the death of whoever ran alone names it",
        caught,
        [
            ASKED,
            PickUp(1, died="crash"),
            Turn(1, [], ["AttemptInterrupted 1 #1 crash crashes 1"]),
            Turn(1, [Begin(1, alone=True)], ["AttemptStarted 1 #2 alone"]),
            PickUp(2, died="crash"),
            Turn(
                2,
                [],
                ["AttemptInterrupted 1 #2 crash crashes 2", *INTERRUPTED, "WaitStarted 2 go"],
            ),
        ],
        max_crashes=2,
    ),
    Example(
        "a death that others may have caused is not the last one, also where one is too many",
        one,
        [
            ASKED,
            PickUp(1, died="crash"),
            Turn(1, [], ["AttemptInterrupted 1 #1 crash crashes 1"]),
        ],
        max_crashes=1,
    ),
    Example(
        "without a limit even that goes on",
        one,
        [
            ASKED,
            PickUp(1, died="crash"),
            Turn(1, [], ["AttemptInterrupted 1 #1 crash crashes 1"]),
            Turn(1, [Begin(1, alone=True)], ["AttemptStarted 1 #2 alone"]),
            PickUp(2, died="crash"),
            Turn(2, [], ["AttemptInterrupted 1 #2 crash crashes 2"]),
        ],
        max_crashes=0,
    ),
    Example(
        "a death is noted before what came meanwhile",
        one,
        [
            ASKED,
            PickUp(9, died="crash"),
            Turn(9, [Signal(3)], ["AttemptInterrupted 1 #1 crash crashes 1", "SignalReceived go"]),
        ],
    ),
]

ASKED_TWICE = Turn(
    0, [], ["TimerStarted 1 until 20", "WaitStarted 2 go", "TimerStarted 3 until 10"]
)
REMINDED = Turn(30, [], ["TimerFired 3", "WaitEnded 2 timed_out", "ActivityScheduled 4 late"])
GIVEN_UP = ["TimerFired 1", "WaitEnded 5 cancelled", "WorkflowFailed TimeoutError"]

CATCHING_UP = [
    Example(
        "what is overdue is held for an activity of the catch-up",
        reminding,
        [
            ASKED_TWICE,
            PickUp(30),
            REMINDED,
            Turn(31, [Signal(31)], ["SignalReceived go"]),
            Turn(32),
            Turn(
                33,
                [completed(33, 4)],
                [
                    *("ActivityCompleted 4", "TimerCancelled 1"),
                    'WorkflowCompleted "answered"',
                ],
            ),
        ],
    ),
    Example(
        "its end lets go what was held",
        reminding,
        [
            ASKED_TWICE,
            PickUp(30),
            REMINDED,
            Turn(31, [completed(31, 4)], ["ActivityCompleted 4", "WaitStarted 5 go", *GIVEN_UP]),
        ],
    ),
    Example(
        "it is held no longer than it took itself",
        reminding,
        [
            ASKED_TWICE,
            PickUp(30),
            REMINDED,
            Turn(49),
            Turn(
                50,
                [],
                ["TimerFired 1", "ActivityCancelRequested 4", "WorkflowFailed TimeoutError"],
            ),
        ],
    ),
    Example(
        "the next owner holds it too",
        reminding,
        [
            ASKED_TWICE,
            PickUp(30),
            REMINDED,
            PickUp(40),
            Turn(40),
            Turn(41, [completed(41, 4)], ["ActivityCompleted 4", "WaitStarted 5 go", *GIVEN_UP]),
        ],
    ),
    Example(
        "what falls due after the pick-up is not held",
        reminding,
        [
            ASKED_TWICE,
            PickUp(12),
            Turn(12, [], ["TimerFired 3", "WaitEnded 2 timed_out", "ActivityScheduled 4"]),
            Turn(
                20,
                [],
                ["TimerFired 1", "ActivityCancelRequested 4", "WorkflowFailed TimeoutError"],
            ),
        ],
    ),
    Example(
        "it does not hold what falls due later",
        reminding_beside_a_clock,
        [
            Turn(
                0,
                [],
                [
                    *("TimerStarted 1 until 40", "TimerStarted 2 until 20"),
                    *("WaitStarted 3 go", "TimerStarted 4 until 10"),
                ],
            ),
            PickUp(30),
            Turn(30, [], ["TimerFired 4", "WaitEnded 3 timed_out", "ActivityScheduled 5 late"]),
            Turn(40, [], ["TimerFired 1"]),
            Turn(50, [], ["TimerFired 2", "ActivityCancelRequested 5", GIVEN_UP[-1]]),
        ],
    ),
    Example(
        "an activity from before the outage holds nothing",
        done_or_late,
        [
            Turn(0, [], ["TimerStarted 1 until 10", "ActivityScheduled 2"]),
            PickUp(30),
            Turn(30, [], ["TimerFired 1", "ActivityCancelRequested 2", "TimerStarted 3 until 31"]),
        ],
    ),
    Example(
        "the deadline is held as well",
        caught_after_sleep,
        [
            Turn(0, [], ["TimerStarted 1 until 10"]),
            PickUp(30),
            Turn(30, [], ["TimerFired 1", "ActivityScheduled 2 late"]),
            Turn(31, [completed(31, 2)], ["ActivityCompleted 2", "WorkflowCompleted null"]),
        ],
        deadline=20,
    ),
    Example(
        "the deadline is held no longer than it took itself",
        caught_after_sleep,
        [
            Turn(0, [], ["TimerStarted 1 until 10"]),
            PickUp(30),
            Turn(30, [], ["TimerFired 1", "ActivityScheduled 2 late"]),
            Turn(49),
            Turn(50, [], ["WorkflowTimedOut at 20"]),
        ],
        deadline=20,
    ),
]

ENDS = [
    Example(
        "at its deadline a run ends, whatever it does",
        one,
        [ASKED, Turn(21, [], ["WorkflowTimedOut at 20"])],
        deadline=20,
    ),
    Example(
        "what came before the deadline is seen, what came after it is kept as unread",
        one,
        [
            ASKED,
            Turn(
                22,
                [Signal(19), Signal(21)],
                ["SignalReceived go", "SignalReceived go unread", "WorkflowTimedOut at 20"],
            ),
        ],
        deadline=20,
    ),
    Example(
        "an activity that ends at the deadline is in time",
        one,
        [ASKED, Turn(22, [completed(20, 1)], ["ActivityCompleted 1", "WorkflowCompleted null"])],
        deadline=20,
    ),
    Example(
        "a run that nobody came to before its deadline never runs",
        one,
        [Turn(21, [Signal(1)], ["SignalReceived go unread", "WorkflowTimedOut at 20"])],
        deadline=20,
    ),
    Example(
        "a cancel ends what is open, and the run",
        one,
        [
            ASKED,
            Turn(
                5,
                [Cancel(5)],
                ["CancelRequested", "ActivityCancelRequested 1", "WorkflowCancelled"],
            ),
        ],
    ),
    Example(
        "a cancelled run may tidy up",
        tidy,
        [
            ASKED,
            Turn(
                5,
                [Cancel(5)],
                ["CancelRequested", "ActivityCancelRequested 1", "ActivityScheduled 2"],
            ),
            Turn(6, [Cancel(6)], ["CancelRequested"]),
            Turn(7, [completed(7, 2)], ["ActivityCompleted 2", "WorkflowCancelled"]),
        ],
    ),
    Example(
        "a run that goes on after a cancel is not cancelled",
        stubborn,
        [
            ASKED,
            Turn(
                5, [Cancel(5)], ["CancelRequested", "ActivityCancelRequested 1", "WaitStarted 2 go"]
            ),
            Turn(
                7,
                [Signal(7)],
                ["SignalReceived go", "WaitEnded 2 received", 'WorkflowCompleted "went on"'],
            ),
        ],
    ),
    Example(
        "what was not seen when the run ended is kept as unread, before its end",
        waiting,
        [
            Turn(0, [], ["WaitStarted 1 go"]),
            Turn(
                5,
                [Signal(1, payload=1), Signal(2, "other"), Signal(3), Cancel(4)],
                [
                    *("SignalReceived go", "WaitEnded 1 received"),
                    *("SignalReceived other unread", "SignalReceived go unread"),
                    "WorkflowCompleted 1",
                ],
            ),
        ],
    ),
    Example(
        "an error of the code fails the run", broken, [Turn(0, [], ["WorkflowFailed KeyError"])]
    ),
    Example(
        "what is asked for and given up in one turn never begins",
        asked_in_vain,
        [
            Turn(
                0,
                [Signal(0)],
                [
                    *("WaitStarted 1 go", "ActivityScheduled 2", "SignalReceived go"),
                    *("WaitEnded 1 received", "ActivityCancelRequested 2"),
                    'WorkflowCompleted "in vain"',
                ],
            ),
        ],
    ),
]

KEPT = [
    Example(
        "an end that waited in the inbox is told in the order in which it came",
        done_or_late,
        [
            Turn(0, [], ["TimerStarted 1 until 10", "ActivityScheduled 2"]),
            PickUp(30),
            Turn(
                30,
                [Signal(7), Kept(completed(9, 2))],
                [
                    *("SignalReceived go", "ActivityCompleted 2"),
                    *("TimerCancelled 1", "TimerStarted 3 until 31"),
                ],
            ),
        ],
    ),
    Example(
        "the delay of a failure that waited there counts from when it came",
        partial(one, retry=OFTEN),
        [ASKED, PickUp(30), Turn(30, [Kept(failed(4, 1))], ["AttemptFailed 1 #1 again at 14"])],
    ),
    Example(
        "the last failure is told from there",
        caught,
        [
            ASKED,
            PickUp(30),
            Turn(
                30,
                [Kept(failed(4, 1))],
                ["ActivityFailed 1 ValueError after 1", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "what took too long is told from there",
        partial(caught, timeout=5),
        [
            ASKED,
            PickUp(30),
            Turn(
                30,
                [Kept(timed_out(5, 1))],
                ["ActivityTimedOut 1 timeout at 5", "WaitStarted 2 go"],
            ),
        ],
    ),
    Example(
        "what was stopped is told from there",
        one,
        [
            ASKED,
            PickUp(30),
            Turn(30, [Kept(interrupted(5, 1))], ["AttemptInterrupted 1 #1 shutdown crashes 0"]),
        ],
    ),
    Example(
        "what may run once, and has ended, is not over a second time",
        partial(caught, function=pay),
        [
            ASKED,
            Turn(0, [Begin(1)], ["AttemptStarted 1 #1"]),
            PickUp(30, died="crash"),
            Turn(30, [Kept(completed(5, 1))], ["ActivityCompleted 1", "WaitStarted 2 go"]),
        ],
    ),
    Example(
        "a death interrupts what was running, and not what had ended",
        two,
        [
            Turn(0, [], ["ActivityScheduled 1", "ActivityScheduled 2"]),
            PickUp(30, died="crash"),
            Turn(
                30,
                [Kept(completed(5, 1))],
                ["AttemptInterrupted 2 #1 crash crashes 1", "ActivityCompleted 1"],
            ),
        ],
    ),
    Example(
        "an end that is in memory too counts once",
        partial(one, retry=OFTEN),
        [ASKED, Turn(5, [Kept(failed(4, 1)), failed(4, 1)], ["AttemptFailed 1 #1 again at 14"])],
    ),
    Example(
        "an end that is on record too counts once",
        partial(one, retry=OFTEN),
        [
            ASKED,
            Turn(5, [failed(4, 1)], ["AttemptFailed 1 #1 again at 14"]),
            Turn(6, [Kept(failed(4, 1))]),
        ],
    ),
    Example(
        "an end that came before the total time was over counts",
        partial(caught, retry=OFTEN, total_timeout=15),
        [
            ASKED,
            PickUp(60),
            Turn(60, [Kept(completed(14, 1))], ["ActivityCompleted 1", "WaitStarted 2 go"]),
        ],
    ),
    Example(
        "a run that ends first keeps it as unread",
        one,
        [
            ASKED,
            PickUp(30),
            Turn(
                30,
                [Kept(completed(25, 1))],
                ["ActivityCompleted 1 unread", "WorkflowTimedOut at 20"],
            ),
        ],
        deadline=20,
    ),
    Example(
        "what was given up meanwhile has no end",
        done_or_late,
        [
            Turn(0, [], ["TimerStarted 1 until 10", "ActivityScheduled 2"]),
            PickUp(30),
            Turn(
                30,
                [Kept(completed(11, 2))],
                ["TimerFired 1", "ActivityCancelRequested 2", "TimerStarted 3 until 31"],
            ),
        ],
    ),
]

EXAMPLES = [*KEPT, *ORDER, *RETRIES, *LIMITS, *ONCE, *DEATHS, *CATCHING_UP, *ENDS]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example: Example) -> None:
    """Each turn appends just these events."""
    replace(example, history=[]).play()


def test_a_message_that_nobody_can_have_written_is_not_acted_on() -> None:
    """The run is damaged; what was sound before it is not applied either."""
    example = Example("damaged", waiting, [])
    held = Held(example, picked_up_at=0, died=None)
    example.history += held.take_turn(Turn(0))
    with pytest.raises(DamagedError):
        held.take_turn(Turn(1, [Signal(1), Signal(1, sound=False)]))


def test_time_is_the_same_or_later_in_every_event() -> None:
    """Also where the clock stands before the last event: what counts there is `at`."""
    example = Example("back", partial(sleeping, lengths=(10, 10)), [])
    held = Held(example, picked_up_at=0, died=None)
    for moment in (0, 10):
        example.history += held.take_turn(Turn(moment))
    (received,) = held.take_turn(Turn(3, [Signal(3)]))
    assert isinstance(received, e.SignalReceived)
    assert (received.time, received.at) == (ns(10), ns(3))
