"""Isolated activities that start processes of their own, each in another way.

What they start would go on for minutes if nobody ended it. It holds the lock of a file, as does the
activity, so that others see whether anything of an attempt is still at work.
"""

import asyncio
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from belugawf import WorkflowContext, activity, workflow

# Longer than anybody waits for a run to end.
LONG_S = 300
WORK_S = 0.1
STEPS = 4


@contextmanager
def witnessed() -> Iterator[int]:
    """As the witness of `tests.kills.processes`, whose process this is not."""
    info, log = activity.info(), os.open("witnessed.log", os.O_WRONLY | os.O_APPEND)
    alive = os.open(f"alive-{os.getpid()}", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(alive, fcntl.LOCK_EX)
    for word in ("ran", "over"):
        line = f"{word}\t{info.run_id}\t{info.activity_id}\t{info.attempt}\t{os.getpid()}\n"
        os.write(log, line.encode())
        if word == "ran":
            yield alive


@activity(isolation="process")
def forked() -> str:
    """It forks, and ends the child when it has done its work."""
    with witnessed():
        child = os.fork()
        if child == 0:
            time.sleep(LONG_S)
            os._exit(0)
        time.sleep(WORK_S)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return "fork"


@activity(isolation="process")
def shelled() -> str:
    """It starts a tool through a shell, and does not close for it what it was given."""
    with witnessed() as alive:
        tool = subprocess.Popen(f"exec sleep {LONG_S}", shell=True, pass_fds=[alive])
        time.sleep(WORK_S)
        tool.kill()
        tool.wait()
        return "shell"


@activity(isolation="process")
def pooled() -> str:
    """It hands work to a pool of processes, one of which never comes back."""
    with witnessed():
        pool = ProcessPoolExecutor(2, mp_context=get_context("fork"))
        pool.submit(time.sleep, LONG_S)
        done = pool.submit(sorted, ["pool"])
        time.sleep(WORK_S)
        word = done.result()[0]
        for process in list(pool._processes.values()):
            process.kill()
        pool.shutdown()
        return word


@activity
async def step(number: int) -> int:
    return number


KINDS = {"fork": forked, "shell": shelled, "pool": pooled}


@workflow
async def forks(ctx: WorkflowContext, kind: str) -> str:
    """One of these, and steps beside it, at whose commits the process may die."""

    async def steps() -> None:
        for number in range(STEPS):
            await ctx.execute_activity(step, number)
            await asyncio.sleep(0.05)

    word, _ = await asyncio.gather(ctx.execute_activity(KINDS[kind]), steps())
    return str(word)
