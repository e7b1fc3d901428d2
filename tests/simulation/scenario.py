"""One history: which processes come when, what they do, which faults meet them, how it ends.

Each seed draws its own kinds of faults, some of them not at all: with everything at once, nothing
ever gets far.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import ExitStack, suppress

from belugawf.executor import IfExists
from belugawf.executor.info import RunInfo
from belugawf.executor.options import EngineOptions
from belugawf.model.errors import BelugaError
from belugawf.model.messages import Signal
from tests.simulation import programs
from tests.simulation.observer import Sent, Violation
from tests.simulation.seams import simulated
from tests.simulation.situations import PLACES
from tests.simulation.storage import Storage
from tests.simulation.world import Faults, Main, Process, World

# How long faults last, in seconds, and how often a resume is tried after that.
_HORIZON_S = 4.0
_ROUNDS = 40
# How long a process may take when nothing hinders it.
_LONGEST_S = 300


def simulate(seed: int, storage: Storage, faults: Faults | None = None) -> World:
    """Run the history of that seed; returns the world that it has left.

    `faults`: in place of those that the seed draws.

    Raises `Violation`.
    """
    storage.clear()
    world = World(seed, storage, faults or _faults(random.Random(f"faults {seed}")))
    programs.site = world.observer
    with simulated(world):
        try:
            _Scenario(world).run()
            world.observer.check_all()
        except Violation as violation:
            violation.stats = world.stats
            raise
        finally:
            world.dispose()
            programs.taken.clear()
    return world


def _faults(rng: random.Random) -> Faults:
    def drawn(*rates: float) -> float:
        return rng.choice((0.0, *rates))

    return Faults(
        killed=drawn(0.0, 0.01, 0.05),
        full=drawn(0.0, 0.002, 0.01),
        unreadable=drawn(0.0, 0.002, 0.01),
        commit_fails=drawn(0.02, 0.1),
        commit_unknown=drawn(0.02, 0.1),
        busy=drawn(0.0, 0.02),
        contended=drawn(0.1),
        held=drawn(0.02, 0.1),
        slow_disk=drawn(0.0, 0.1, 0.5),
        preempted=drawn(0.05, 0.2),
        lost=drawn(0.3),
        late=drawn(0.3),
        stalled=drawn(0.02),
        no_thread=drawn(0.0, 0.0, 0.3),
        aimed=rng.choice((*PLACES, *("refuse", *("abandon",) * 5, "save_heartbeats"))),
        hit=drawn(0.5, 0.5, 0.5),
    )


class _Scenario:
    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._version = "sound"
        self._sent = 0
        self._retries = 0
        self._furthest_ns = 0
        ahead = (0.1, 3, 3600)
        self._jumps = world.rng.choice((ahead, (*ahead, -0.1, -3, -3600)))
        self._calm = False
        self._worker = False

    def run(self) -> None:
        """Everything, from the first start until each run has ended and each process is gone."""
        world, rng = self._world, self._rng
        ids = [f"r{number}" for number in range(rng.randint(1, 2))]
        for name in ids:
            world.after(rng.random() / 10, self._starting(name, "fail"))
        self._plan(rng.randint(1, 3), lambda: self._spawn("worker", _work))
        self._plan(rng.randint(0, 3), lambda: self._spawn("resume", self._resuming()))
        if rng.random() < 0.5:  # before there is a worker: it drives
            world.after(0.1, lambda: self._spawn("resume", self._resuming()))
        self._plan(rng.randint(0, 1), lambda: self._spawn("wait", self._wait(rng.choice(ids))))
        if rng.random() < 0.5:
            self._deploy(rng.choice(programs.DRIVING))
        self._plan(rng.randint(0, 8), lambda: self._spawn("signal", self._signal(rng.choice(ids))))
        if rng.random() < 0.4:
            self._plan(rng.randint(1, 2), lambda: self._spawn("cancel", self._cancel(ids[0])))
        for name in ids:
            if rng.random() < 0.6:
                self._plan(
                    rng.randint(1, 3), lambda name=name: self._spawn("retry", self._retry(name))
                )
        if rng.random() < 0.5:
            self._plan(2, self._retry_unseen)
        if rng.random() < 0.4:
            world.observer.down_until = rng.random() * _HORIZON_S
        if rng.random() < 0.2:
            self._plan(1, lambda: self._spawn("terminate", self._terminate(ids[0])))
        if rng.random() < 0.2:
            self._plan(1, self._starting(ids[0], rng.choice(("replace", "skip", "fail"))))
        for fault in (self._kill, self._freeze, self._jump, self._interrupt):
            self._plan(rng.choice((0, 0, 1, 2, 4)), fault)
        versions = (*programs.DRIVING, *("missing",) * 3)
        self._plan(rng.choice((0, 1, 2, 4)), lambda: self._deploy(rng.choice(versions)))
        if rng.random() < 0.05:
            self._plan(1, self._reboot)
        world.run_until(lambda: False, _HORIZON_S)
        self._settle()

    def _plan(self, count: int, what: Callable[[], object]) -> None:
        def happen() -> None:
            if not self._calm:
                what()

        for _ in range(count):
            # Most of it early, while there is most to do.
            self._world.after(0.1 + self._rng.random() ** 2 * _HORIZON_S, happen)

    # -- processes -------------------------------------------------------------------------------

    def _spawn(self, name: str, main: Main) -> Process:
        rng = self._rng
        options = EngineOptions(
            cache_runs=rng.choice((0, 1, 256)),
            concurrency=rng.choice((1, 2, 100)),
            threads=rng.choice((1, 2, 64)),
            max_crashes=rng.choice((0, 1, 2, 3)),
        )
        stays = rng.choice((0, 0, 0, 0.5, 2))

        async def live(process: Process) -> None:
            await main(process)
            await asyncio.sleep(stays)  # a program does other things after it left its executor

        self._world.stats[name] += 1
        name = f"{name} {self._world.stats['processes']}"
        return self._world.spawn(name, live, programs.CATALOGS[self._version], options)

    def _starting(self, name: str, if_exists: IfExists) -> Callable[[], object]:
        detach, follow = self._rng.random() < 0.5, self._rng.random() * 3
        statements = programs.grow(self._rng)
        timeout = self._rng.choice((None, None, None, 2.0))

        async def start(process: Process) -> None:
            async with process.new_executor() as executor:
                handle = await executor.execute(
                    "program",
                    id=name,
                    input=statements,
                    if_exists=if_exists,
                    timeout=timeout,
                    detach=detach,
                )
                self._world.observer.started.append(handle.run_id)
                if detach:
                    return
                waiting = self._world.situations.waiting(process, handle.run_id)
                with suppress(TimeoutError), waiting:
                    async with asyncio.timeout(follow):
                        result = await handle.result()
                        self._world.observer.results.append((handle.run_id, result))

        return lambda: self._spawn("start", start)

    def _resuming(self) -> Main:
        """Once, or again in the same process, with other limits."""
        rng = self._rng
        resumes = [
            (
                rng.choice((None, None, "r0", "r1", ["r0", "r1"])),
                rng.choice((0.0, 1.0, 60.0)),
                rng.choice((None, 0.05, 0.2, 0.5)),
                rng.choice((None, 0.0, 0.1, 0.5)),
            )
            for _ in range(rng.choice((1, 1, 2)))
        ]

        async def resume(process: Process) -> None:
            async with process.new_executor() as executor:
                for named, patience, limit, grace in resumes:
                    with self._waiting(process, named), process.limited(limit):
                        await executor.resume(named, patience=patience, max_time=limit, grace=grace)

        return resume

    def _waiting(self, process: Process, named: str | list[str] | None) -> ExitStack:
        """While it lasts somebody in that process waits for the runs of these names."""
        stack = ExitStack()
        names = [named] if isinstance(named, str) else named or []
        for run in self._world.observer.open_runs().values():
            if run.workflow_id in names:
                stack.enter_context(self._world.situations.waiting(process, run.run_id))
        return stack

    def _wait(self, run: str) -> Main:
        """Somebody who waits for the end, whoever drives."""
        longest = self._rng.random() * 4
        situations, observer = self._world.situations, self._world.observer

        async def wait(process: Process) -> None:
            async with process.new_executor() as executor:
                handle = executor.handle(run)
                with suppress(TimeoutError), situations.waiting(process, handle.run_id):
                    async with asyncio.timeout(longest):
                        observer.results.append((handle.run_id, await handle.result()))

        return wait

    def _signal(self, run: str, name: str | None = None) -> Main:
        self._sent += 1
        payload = f"message {self._sent}"
        signal = name or self._rng.choice(programs.SIGNALS)
        again, drive = self._rng.random() < 0.3, self._rng.random() < 0.5
        observer = self._world.observer

        async def send(process: Process) -> None:
            async with process.new_executor() as executor:
                message = Signal(signal, payload, key=payload)
                for left in (1, 0):
                    begun = next(observer.moments)
                    try:
                        delivery = await executor.signal(run, message, drive=drive)
                    except BelugaError:
                        if not left:
                            raise
                        continue  # whoever was not told sends it again, under the same key
                    sent = Sent(delivery.run.run_id, payload, begun, next(observer.moments))
                    if not delivery.duplicate:
                        observer.signalled.append(sent)
                    if not again:
                        break
                await asyncio.sleep(0.5 if drive else 0)

        return send

    def _cancel(self, run: str) -> Main:
        self._sent += 1
        reason = f"reason {self._sent}"
        observer = self._world.observer

        async def cancel(process: Process) -> None:
            async with process.new_executor() as executor:
                info = await executor.cancel(run, reason)
                observer.cancelled.append(Sent(info.run_id, reason, 0, 0))

        return cancel

    def _retry(self, run: str, *, anywhere: bool = False) -> Main:
        """Take the run up again when it has ended or is parked, perhaps more than once."""
        rng = self._rng
        tries = [
            (rng.random() * 2, rng.random() < 0.4 or anywhere, rng.choice((None, None, 0.3, 1.0)))
            for _ in range(rng.choice((1, 1, 2, 3)))
        ]
        discard, drive, stays = rng.random() < 0.6 or anywhere, rng.random() < 0.5, rng.random()
        observer, seconds = self._world.observer, self._world.seconds

        async def retry(process: Process) -> None:
            async with process.new_executor() as executor:
                for longest, from_position, timeout in tries:
                    end = seconds() + longest
                    while _goes_on(await executor.describe(run)) and seconds() < end:
                        await asyncio.sleep(0.05)
                    position = None
                    if from_position:
                        position = 1 + int(rng.random() * len(await executor.history(run)))
                    self._retries += 1
                    reason = f"retry {self._retries}"
                    info = await executor.retry(
                        run,
                        from_position=position,
                        timeout=timeout,
                        discard=discard,
                        reason=reason,
                        drive=drive,
                    )
                    observer.retried.append((info.run_id, reason))
                await asyncio.sleep(stays if drive else 0)

        return retry

    def _terminate(self, run: str) -> Main:
        async def terminate(process: Process) -> None:
            async with process.new_executor() as executor:
                info = await executor.terminate(run, "enough")
                self._world.observer.terminated.append(info.run_id)

        return terminate

    # -- faults ----------------------------------------------------------------------------------

    def _somebody(self) -> Process | None:
        living = self._world.processes
        return self._world.choice(living) if living else None

    def _kill(self) -> None:
        process = self._somebody()
        if process is not None:
            self._world.kill(process)

    def _freeze(self) -> None:
        process = self._somebody()
        if process is not None:
            self._freeze_for(process, self._rng.random() * 3)

    def _freeze_for(self, process: Process, seconds: float) -> None:
        self._world.stats["freezes"] += 1
        process.frozen = True
        self._world.after(seconds, lambda: setattr(process, "frozen", False))

    def _retry_unseen(self) -> None:
        """Somebody who has a run's state in memory sees nothing of how it is taken up again."""
        for process in self._world.processes:
            cached = [] if process.engine is None else [*process.engine.table.cache._cached]
            if cached:
                self._freeze_for(process, 1 + self._rng.random())
                run = self._world.observer.workflow_id_of(self._world.choice(cached))
                self._spawn("cancel", self._cancel(run))
                self._spawn("resume", _resume_all)
                self._spawn("retry", self._retry(run, anywhere=True))
                return

    def _interrupt(self) -> None:
        process = self._somebody()
        if process is not None and process.executor is not None:
            self._world.stats["interrupts"] += 1
            process.interrupt()

    def _jump(self) -> None:
        jump = self._rng.choice(self._jumps)
        self._world.stats["clock jumps"] += 1
        for process in self._world.processes:
            process.expect_jump(int(jump * 1e9))
        self._world.went_back = self._world.went_back or jump < 0
        self._world.offset_ns += int(jump * 1e9)
        self._furthest_ns = max(self._furthest_ns, self._world.offset_ns)

    def _deploy(self, version: str) -> None:
        """Whoever starts from now on has other code, for a while."""
        self._version = version
        self._world.stats["bad deploys"] += 1
        self._world.after(self._rng.random() * 3, lambda: setattr(self, "_version", "sound"))

    def _reboot(self) -> None:
        self._world.boots += 1
        self._world.stats["reboots"] += 1
        for process in list(self._world.processes):
            self._world.kill(process)

    # -- the end ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """No more faults, the clock is set right, and whoever waits gets what is waited for."""
        world, self._calm = self._world, True
        world.faults = Faults(preempted=world.faults.preempted)
        world.offset_ns = self._furthest_ns
        self._version = "sound"
        world.observer.down_until = 0.0
        for process in list(world.processes):
            process.frozen = False
            wrong = process.catalog is not programs.CATALOGS["sound"]
            # What hangs in a thread keeps its run until it ends, or its process does.
            if wrong or self._rng.random() < 0.5 or world.observer.hangs_in(process):
                self._stop(process)
        self._worker = self._rng.random() < 0.7
        if self._worker:
            self._spawn("worker", _work)
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            self._drive_to_the_end()
            for workflow_id in world.observer.to_be_retried():
                self._wait_for(self._spawn("retry", self._retry(workflow_id)))
        self._drive_to_the_end()
        for process in list(world.processes):
            self._stop(process)
        if not world.run_until(lambda: not world.processes, _LONGEST_S):
            raise Violation(f"{world.processes[0].name} does not end")

    def _drive_to_the_end(self) -> None:
        """Each run ends, whoever it takes."""
        world = self._world
        for number in range(_ROUNDS):
            self._version = "sound"
            world.run_until(lambda: not world.observer.open_runs(), 0.1 + self._rng.random() * 2)
            left = world.observer.open_runs().values()
            if not left:
                break
            if not self._worker or any(run.problem for run in left):
                # What has been driven by the changed code goes on with that only.
                self._version = "changed" if number % 4 == 3 else "sound"
                self._wait_for(self._spawn("resume", _resume_all))
            for workflow_id, signal in self._awaited():
                self._wait_for(self._spawn("signal", self._signal(workflow_id, signal)))
        for run in world.observer.open_runs().values():
            world.observer.check_all()  # which may know why
            history = [type(event).__name__ for event in world.observer.histories[run.run_id]]
            raise Violation(f"{run} does not end: {history}")

    def _stop(self, process: Process) -> None:
        if process.executor is None:
            self._world.kill(process)  # nobody handles the signal yet
            return
        for _ in range(2):
            process.interrupt()

    def _wait_for(self, process: Process) -> None:
        if not self._world.run_until(lambda: not process.alive, _LONGEST_S):
            raise Violation(f"{process.name} does not end")

    def _awaited(self) -> list[tuple[str, str]]:
        rows = self._world.storage.observer.execute(
            "SELECT r.workflow_id, w.signal FROM waits w JOIN runs r ON r.key = w.run "
            "WHERE r.key NOT IN (SELECT run FROM inbox)"
        )
        return rows.fetchall()


def _goes_on(info: RunInfo) -> bool:
    """Whether it is open, and not parked."""
    return info.status == "running" and info.problem is None


async def _work(process: Process) -> None:
    process.is_worker = True
    async with process.new_executor() as executor:
        await executor.work()


async def _resume_all(process: Process) -> None:
    async with process.new_executor() as executor:
        await executor.resume(patience=60)
