"""Processes that are no plain program: scripts without a guard, forks, several event loops.

What cannot work says so at once; nothing hangs, and nothing is started without end. Guards FINDINGS
L16, O6.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belugawf import Signal, UsageError, WorkflowContext, activity, new_executor, workflow
from belugawf.executor.blocking import BlockingExecutor
from tests.cli.test_process import environment

PATIENCE_S = 60

SCRIPT = """
import asyncio
import os
import subprocess

from belugawf import WorkflowContext, activity, new_executor, workflow

print("begun", flush=True)


{definitions}
async def main() -> None:
    async with new_executor("default", db="state.db", workflows=[asking]) as executor:
        handle = await executor.execute(asking, input=1)
        info = await executor.wait(handle.id)
        print(info.result if info.error is None else info.error.message)


{start}
"""
DEFINITIONS = """
@activity(isolation="process")
def add(number: int) -> int:
    return number + subprocess.run(["true"], preexec_fn=os.getpid).returncode + 1


@workflow
async def asking(ctx: WorkflowContext, number: int) -> int:
    return await ctx.execute_activity(add, number)


"""
GUARD = 'if __name__ == "__main__":\n'
BARE = SCRIPT.format(definitions=DEFINITIONS, start="asyncio.run(main())")
GUARDED = SCRIPT.format(definitions=DEFINITIONS, start=f"{GUARD}    asyncio.run(main())")
WITHIN = SCRIPT.format(
    definitions=GUARD + textwrap.indent(DEFINITIONS, "    "),
    start=f"{GUARD}    asyncio.run(main())",
)
SYNC = (
    BARE.replace("asyncio.run(main())", "")
    .replace("async def main() -> None:\n    async with", "if True:\n    with")
    .replace("workflows=[asking])", "workflows=[asking]).sync()")
    .replace("await executor", "executor")
)


@pytest.mark.parametrize(
    ("script", "how", "told"),
    [
        (GUARDED, "file", "2"),
        (BARE, "file", "imports this file, which opens an executor"),
        (SYNC, "file", "imports this file, which opens an executor"),
        (WITHIN, "file", "does not find add in"),
        (BARE, "-c", "its module has no file"),
        (BARE, "-", "its module has no file"),
        (GUARDED, "-m", "2"),
    ],
)
def test_scripts_with_isolated_activities(script: str, how: str, told: str, tmp_path: Path) -> None:
    """Each says what is to be done, after one attempt; none starts itself again and again."""
    (tmp_path / "script.py").write_text(script)
    arguments = {"file": ["script.py"], "-c": ["-c", script], "-": ["-"], "-m": ["-m", "script"]}
    done = subprocess.run(
        [sys.executable, *arguments[how]],
        cwd=tmp_path,
        env=environment(),
        input=script if how == "-" else "",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    begun, last = done.stdout.splitlines()
    assert begun == "begun"
    assert told in last
    # What the child prints goes to stderr.
    assert done.stderr.count("begun") <= 1, done.stderr


@activity
async def on_loop() -> str:
    with pytest.raises(UsageError, match="which would wait for itself"):
        USED[0].list()
    return "done"


@workflow
async def using(ctx: WorkflowContext) -> str:
    result: str = await ctx.execute_activity(on_loop)
    return result


@workflow
async def asking(ctx: WorkflowContext) -> object:
    return (await ctx.wait_for_signal("answer")).payload


USED: list[Any] = []

OTHER_LOOP = """
import asyncio
import uvloop

from belugawf import WorkflowContext, activity, new_executor, workflow


@activity
def in_thread(number: int) -> int:
    return number


@activity
async def on_loop(number: int) -> int:
    await asyncio.sleep(0.01)
    return number


@activity(isolation="process")
def in_process(number: int) -> int:
    return number


@workflow
async def all_sorts(ctx: WorkflowContext) -> list[int]:
    ended = await asyncio.gather(
        *(ctx.execute_activity(f, n) for n, f in enumerate((in_thread, on_loop, in_process)))
    )
    await ctx.sleep(0.01)
    return [*ended, (await ctx.wait_for_signal("go", timeout=60)).payload]


async def main() -> None:
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    async with new_executor("default", db="state.db", workflows=[all_sorts]) as executor:
        worker = asyncio.create_task(executor.work())
        for detach in (False, True):
            handle = await executor.execute(all_sorts, detach=detach)
            await executor.wait(handle.id, until="signal:go")
            await handle.signal("go", 7)
            print(await handle.result())
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(main())
"""
# A loop that runs already, as in a notebook, and functions that stand in no file.
TYPED = """
from belugawf import activity, new_executor, workflow

@activity
def double(number: int): return 2 * number

@activity(isolation="process")
def apart(number: int): return number

@workflow
async def adds(ctx):
    doubled = await ctx.execute_activity(double, 2)
    return [doubled, (await ctx.wait_for_signal("go")).payload]

@workflow
async def isolates(ctx): return await ctx.execute_activity(apart, 2)

executor = new_executor("default", db="state.db", workflows=[adds, isolates])
_ = await executor.__aenter__()
handle = await executor.execute(adds)
_ = await handle.signal("go", 3)
print(await handle.result())
handle = await executor.execute(isolates)
print((await executor.wait(handle.id)).error.message)
await executor.__aexit__(None, None, None)
"""


def output_of(*arguments: str, typed: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    ).stdout


def test_another_kind_of_event_loop(tmp_path: Path) -> None:
    """uvloop drives runs, activities of all sorts, and a worker."""
    (tmp_path / "script.py").write_text(OTHER_LOOP)
    told = output_of("script.py", typed="", folder=tmp_path)
    assert told == "[0, 1, 2, 7]\n" * 2


def test_what_is_typed_where_a_loop_runs(tmp_path: Path) -> None:
    """Its functions are activities; an isolated one is told that no other process finds it."""
    told = output_of("-m", "asyncio", typed=TYPED, folder=tmp_path)
    assert "[4, 3]" in told
    assert "'apart' is isolated, and a process of its own cannot find it" in told


def test_a_second_event_loop(tmp_path: Path) -> None:  # FINDINGS L16
    """It can neither use nor leave an executor of the first; the first still can, and reopen it."""
    executor = new_executor("default", db=tmp_path / "s.db", workflows=[asking])

    async def start() -> Any:
        await executor.__aenter__()
        return await executor.execute(asking)

    async def leave() -> None:
        await executor.__aexit__(None, None, None)

    async def reopened(name: str) -> object:
        async with executor:
            await executor.signal(name, Signal("answer", 5))
            return await executor.handle(name).result()

    with asyncio.Runner() as first:
        handle = first.run(start())
        calls: list[Callable[[], Any]] = [
            handle.result,
            handle.status,
            lambda: executor.execute(asking),
            lambda: executor.signal(handle.id, Signal("answer", 1)),
            executor.list,
            lambda: executor.history(handle.id),
            lambda: executor.resume(),
            leave,
        ]
        for call in calls:
            with pytest.raises(UsageError, match="on another event loop"):
                asyncio.run(asyncio.wait_for(call(), 10))
        first.run(leave())
    assert asyncio.run(asyncio.wait_for(reopened(handle.id), 10)) == 5


FORKS = """
import asyncio
import os
import sys

from belugawf import UsageError, new_executor
from tests.local.test_odd_processes import asking


def in_child(*calls):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for call in calls:
                try:
                    call()
                except UsageError as error:
                    assert "has forked this one" in str(error), error
                else:
                    raise AssertionError(call)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def leaving_in_child(leave):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            leave()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


with new_executor("default", db="sync.db", workflows=[asking]).sync() as blocking:
    handle = blocking.execute(asking)
    in_child(blocking.list, handle.result, lambda: blocking.execute(asking))
    leaving_in_child(lambda: blocking.__exit__(None, None, None))
    blocking.signal(handle.id, "answer", 1)
    assert handle.result() == 1


async def main():
    async with new_executor("default", db="async.db", workflows=[asking]) as executor:
        handle = await executor.execute(asking)

        def drive(work):
            # As a server that forks and goes on: a loop of its own.
            asyncio.events._set_running_loop(None)
            return asyncio.new_event_loop().run_until_complete(work)

        in_child(lambda: drive(executor.list()), lambda: drive(handle.result()))
        leaving_in_child(lambda: drive(executor.__aexit__(None, None, None)))
        await executor.signal(handle.id, "answer", 2)
        assert await handle.result() == 2


asyncio.run(main())
print("both")
"""


def test_forked_children(tmp_path: Path) -> None:  # FINDINGS L16
    """They are told so, may leave, and take nothing from their parent."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "both\n"), done


def test_leaving_while_other_threads_wait(tmp_path: Path) -> None:
    """They are told that nobody drives their runs any more."""
    errors: list[BaseException] = []

    def waiting(call: Callable[[], object]) -> threading.Thread:
        def wait() -> None:
            try:
                call()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    with new_executor("default", db=tmp_path / "s.db", workflows=[asking]).sync() as executor:
        handle = executor.execute(asking)
        threads = [waiting(handle.result), waiting(lambda: executor.wait(handle.id))]
        assert isinstance(executor, BlockingExecutor)
        while len(executor._calls) < len(threads):
            os.sched_yield()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(errors) == len(threads)
    assert {str(e) for e in errors} <= {"the executor is not open", "the executor was left"}
    with pytest.raises(UsageError, match="is not open"):
        executor.list()
    with executor:  # it can be opened again
        executor.signal(handle.id, "answer", 3)
        assert executor.handle(handle.id).result() == 3


def test_a_blocking_executor_on_its_own_loop(tmp_path: Path) -> None:
    """An async activity may not use it: it would wait for itself."""
    with new_executor("default", db=tmp_path / "s.db", workflows=[using]).sync() as executor:
        USED[:] = [executor]
        assert executor.execute(using).result() == "done"
