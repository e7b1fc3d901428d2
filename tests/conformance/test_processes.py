"""What an isolated activity starts is ended with it, and nothing of it is left beside a successor.

Guards FINDINGS O1, A2.
Of A10 only the standard input and heartbeat details are guarded here.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.conformance.harness import Project, is_alive, wait_for

# Each way notes the process numbers of all that it starts: `sleeper` is what runs there.
STARTING = """
    import concurrent.futures
    import multiprocessing
    import sys


    def sleeper():
        note(f"pid {os.getpid()}")
        time.sleep(300)


    def daemon():
        # As daemons do: a session of its own, and forked twice.
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                sleeper()
            os._exit(0)
        os.wait()


    def with_a_pool():
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            for job in [pool.submit(sleeper) for _ in range(2)]:
                job.result()


    def with_multiprocessing(method):
        context = multiprocessing.get_context(method)
        # What is spawned imports this by name, so it is not of this module.
        if method == "fork":
            context.Process(target=sleeper).start()
        else:
            started = context.Process(target=time.sleep, args=(300,))
            started.start()
            note(f"pid {started.pid}")


    def with_fork():
        if os.fork() == 0:
            sleeper()
            os._exit(0)


    def with_a_shell():
        command = "sleep 300 & echo $! >&3; setsid sleep 300 & echo $! >&3; wait"
        reader, writer = os.pipe()
        os.dup2(writer, 3)
        subprocess.Popen(command, shell=True, pass_fds=[3])
        with os.fdopen(reader) as lines:
            note(f"pid {int(lines.readline())}")
            note(f"pid {int(lines.readline())}")


    STARTS = {
        "pool": with_a_pool,
        "multiprocessing-fork": lambda: with_multiprocessing("fork"),
        "multiprocessing-spawn": lambda: with_multiprocessing("spawn"),
        "fork": with_fork,
        "daemon": daemon,
        "shell": with_a_shell,
    }


    @activity(isolation="process")
    def starting(how: str) -> str:
        note(f"begun {activity.info().attempt}")
        if is_open("again"):
            for line in (ROOT / "activity.log").read_text().splitlines():
                if "pid " in line and is_there(int(line.split()[-1])):
                    note("left over")
            return "done"
        note(f"pid {os.getpid()}")
        STARTS[how]()
        note("started")
        time.sleep(300)


    def is_there(pid):
        try:
            return "Z" not in (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2]
        except OSError:
            return False


    @workflow
    async def start(ctx: WorkflowContext, how: str) -> str:
        return await ctx.execute_activity(starting, how)
"""
WAYS = ["pool", "multiprocessing-fork", "multiprocessing-spawn", "fork", "daemon", "shell"]
MOST = {"pool": 3, "shell": 3}


def pids(project: Project) -> list[int]:
    return [int(line.split()[1]) for line in project.log() if line.startswith("pid ")]


def started(project: Project, how: str) -> bool:
    return len(pids(project)) >= MOST.get(how, 2)


@pytest.mark.local_only
@pytest.mark.cached_only
@pytest.mark.parametrize("how", WAYS)
def test_a_killed_worker_leaves_nothing(project: Project, how: str) -> None:
    """SIGKILL: all below is gone within a moment, and the successor begins only then."""
    project.write_module("starting", STARTING)
    driver = project.start("run", "start", "-i", how, "--id", "s")
    wait_for(lambda: started(project, how), "it has started what it starts", process=driver)
    driver.kill()
    project.open_gate("again")
    project.cli("resume", "s")
    assert project.result("s") == "done"
    assert project.log().count("left over") == 0
    assert not [pid for pid in pids(project) if is_alive(pid)]


@pytest.mark.parametrize("how", ["daemon", "shell"])
def test_a_timeout_ends_all_that_was_started(project: Project, how: str) -> None:
    """No tool of an attempt that timed out works beside the next attempt."""
    source = STARTING.replace(
        "ctx.execute_activity(starting, how)",
        'ctx.execute_activity(starting, how, timeout="3s",'
        " retry=RetryPolicy(max_attempts=2, initial_delay=0))",
    )
    project.write_module("starting", source)
    driver = project.start("run", "start", "-i", how, "--id", "s")
    wait_for(lambda: started(project, how), "it has started what it starts", process=driver)
    project.open_gate("again")
    driver.wait()
    assert project.result("s") == "done"
    assert project.log().count("left over") == 0
    assert project.count("begun 2") == 1


def test_what_an_activity_leaves_behind_ends_with_it(project: Project) -> None:
    """A process in the background is not the run's any more once its activity has returned."""
    project.write_module(
        "leaving",
        STARTING
        + """
    @activity(isolation="process")
    def leaving() -> str:
        note("leaving")
        daemon()
        while not "pid " in (ROOT / "activity.log").read_text():
            time.sleep(0.01)
        return "left"


    @workflow
    async def leave(ctx: WorkflowContext) -> str:
        return await ctx.execute_activity(leaving)
    """,
    )
    project.cli("run", "leave", "--id", "l")
    assert project.result("l") == "left"
    (pid,) = pids(project)
    assert not is_alive(pid)


@pytest.mark.parametrize("kind", ["on_loop", "in_thread", "in_process"])
def test_a_fork_that_returns_is_not_the_activity(project: Project, kind: str) -> None:
    """What the activity has forked may raise or return: that is not the activity's end."""
    project.write_module(
        "forking",
        """
        import sys


        def fork_once(how: str) -> str:
            child = os.fork()
            if child == 0:
                if how == "exits":
                    sys.exit(3)
                if how == "raises":
                    raise ValueError("in the fork")
                return "the fork's"
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return f"the activity's, {code}"


        @activity
        async def on_loop(how: str) -> str:
            return fork_once(how)


        @activity
        def in_thread(how: str) -> str:
            return fork_once(how)


        @activity(isolation="process")
        def in_process(how: str) -> str:
            return fork_once(how)


        @workflow
        async def fork(ctx: WorkflowContext, kind: str) -> list:
            ways = ["exits", "raises", "returns"]
            return [await ctx.execute_activity(globals()[kind], how) for how in ways]
        """,
    )
    project.cli("run", "fork", "-i", kind, "--id", "f", timeout=60)
    assert project.result("f") == [f"the activity's, {code}" for code in (3, 1, 0)]


def test_an_isolated_activity_has_no_terminal_and_an_empty_stdin(project: Project) -> None:
    """A tool that reads its input to the end finds it; nobody can be asked for a password."""
    project.write_module(
        "reading",
        """
        @activity(isolation="process")
        def reading() -> list:
            read = subprocess.run(["cat"], capture_output=True, text=True, timeout=20).stdout
            try:
                os.close(os.open("/dev/tty", os.O_RDWR))
            except OSError:
                return [read, "no terminal"]
            return [read, "a terminal"]


        @workflow
        async def read(ctx: WorkflowContext) -> list:
            return await ctx.execute_activity(reading)
        """,
    )
    project.cli("run", "read", "--id", "r")
    assert project.result("r") == ["", "no terminal"]


def test_pools_in_isolated_activities_can_be_ended(project: Project) -> None:
    """`terminate` sends SIGTERM, which what was forked must obey, though the activity does not."""
    project.write_module(
        "pooling",
        """
        import multiprocessing


        @activity(isolation="process")
        def pooling() -> str:
            started = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
            started.start()
            started.terminate()
            started.join(20)
            os.kill(os.getpid(), signal.SIGTERM)
            return f"ended with {started.exitcode}"


        @workflow
        async def pool(ctx: WorkflowContext) -> str:
            return await ctx.execute_activity(pooling)
        """,
    )
    project.cli("run", "pool", "--id", "p")
    assert project.result("p") == f"ended with {-signal.SIGTERM}"


def test_what_was_forked_reports_progress(project: Project) -> None:
    """A heartbeat of a worker process keeps its activity alive as one of its own does."""
    project.write_module(
        "beating",
        """
        import multiprocessing


        def beat():
            for number in range(12):
                activity.heartbeat({"number": number, "at": activity.info().activity})
                time.sleep(0.25)


        @activity(isolation="process", heartbeat_timeout="2s")
        def beating() -> str:
            started = multiprocessing.get_context("fork").Process(target=beat)
            started.start()
            started.join()
            return f"ended with {started.exitcode}"


        @workflow
        async def beats(ctx: WorkflowContext) -> str:
            return await ctx.execute_activity(beating)
        """,
    )
    project.cli("run", "beats", "--id", "b")
    assert project.result("b") == "ended with 0"


@pytest.mark.local_only
@pytest.mark.cached_only
def test_an_activity_cannot_keep_its_runs_owner_alive(project: Project) -> None:
    """No descriptor that is inherited leads to a lock file: a fork must not hold it."""
    project.write_module(
        "looking",
        """
        @activity(isolation="process")
        def looking() -> list:
            links = Path("/proc/self/fd").iterdir()
            return [os.readlink(link) for link in links if os.path.lexists(link)]


        @workflow
        async def look(ctx: WorkflowContext) -> list:
            return await ctx.execute_activity(looking)
        """,
    )
    project.cli("run", "look", "--id", "l")
    held = project.result("l")
    assert not [place for place in held if ".belugawf" in place]


@pytest.mark.local_only
@pytest.mark.cached_only
def test_a_stopped_worker_takes_its_isolated_activity_along(project: Project) -> None:
    """The third signal ends at once, and what is below it within a moment."""
    project.write_module("starting", STARTING)
    driver = project.start("run", "start", "-i", "daemon", "--id", "s")
    wait_for(lambda: started(project, "daemon"), "it has started", process=driver)
    for _ in range(3):
        driver.send(signal.SIGTERM)
        time.sleep(0.1)
    driver.wait(check=143)
    wait_for(lambda: not [pid for pid in pids(project) if is_alive(pid)], "all are gone")
