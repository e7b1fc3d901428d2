"""A worker in this process: it polls the task queue, and drives whatever the server hands out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from datetime import timedelta

from temporalio.worker import Worker

from belugawf.authoring.loader import Catalog
from belugawf.executor import Hooks
from belugawf.executor.options import EngineOptions
from belugawf.host.clock import SystemClock
from belugawf.host.logs import enter_passage, leave_passage
from belugawf.host.loops import ProtectedTasks
from belugawf.host.test_hooks import number
from belugawf.model.errors import UnavailableError
from belugawf.temporal.attempts import ActivityHost
from belugawf.temporal.environment import Environment
from belugawf.temporal.headers import Headers
from belugawf.temporal.instance import Instance, Runner
from belugawf.temporal.runtime import DurableRun
from belugawf.temporal.scheduling import PULSE_S
from belugawf.temporal.server import RunName, Server

# Until it is cut, a worker that shuts down waits for its attempts; they have limits of their own.
_GRACE = timedelta(days=3_650)
# A run whose worker died is handed to another one after this.
_STICKY = timedelta(seconds=number("BELUGAWF_TEST_STICKY", 10))
# So long a turn takes that the border cannot end, in seconds; others go on meanwhile.
_NO_RETURN_S = 15
# As many workflow tasks at a time as threads to run them; each takes a few milliseconds.
_TURNS_AT_ONCE = 32


# Kept from the garbage collector, which would run their code to its end.
_LEFT_BEHIND: list[Instance] = []


class _ToldByUs(logging.Filter):
    """Drops the SDK's own lines about failed turns and attempts: they are told as problems and
    failures, without the traceback of its machinery."""

    def filter(self, record: logging.LogRecord) -> bool:
        known = hasattr(record, "__temporal_error_identifier")
        return not known and not record.getMessage().startswith(_TOLD)


# Such lines have no mark.
_TOLD = ("Failed handling activation", "Timed out running eviction job")
_FILTER = _ToldByUs()
for _name in ("worker._workflow_instance", "worker._workflow", "activity"):
    logging.getLogger(f"temporalio.{_name}").addFilter(_FILTER)


class TemporalWorker:
    """One worker, from its start to the end of its last attempt. Lives on one event loop."""

    def __init__(
        self,
        server: Server,
        catalog: Catalog,
        options: EngineOptions,
        hooks: Sequence[Hooks],
        context: Context | None = None,
        *,
        own_process: bool = False,
    ) -> None:
        self.environment = Environment(
            catalog,
            options,
            hooks,
            lambda workflow_id, run_id: server.fetch_history(RunName(workflow_id, run_id)),
            context,
        )
        loop = asyncio.get_running_loop()
        self._protected = ProtectedTasks(loop)
        self._activities = self._protected.context.run(
            ActivityHost,
            self.environment,
            SystemClock(),
            context,
            isolates=own_process,
        )
        self._runner = Runner(self.environment)
        self._turns = ThreadPoolExecutor(_TURNS_AT_ONCE, thread_name_prefix="belugawf-workflow")
        self._worker = Worker(
            server.client,
            task_queue=server.settings.task_queue,
            workflows=[DurableRun],
            activities=[self._activities.execute],
            workflow_runner=self._runner,
            workflow_task_executor=self._turns,
            interceptors=[*server.passing.of_worker(), Headers()],
            max_cached_workflows=options.cache_runs,
            max_concurrent_workflow_tasks=max(min(_TURNS_AT_ONCE, options.cache_runs), 2),
            max_concurrent_activities=options.concurrency,
            sticky_queue_schedule_to_start_timeout=_STICKY,
            max_heartbeat_throttle_interval=timedelta(seconds=PULSE_S),
            default_heartbeat_throttle_interval=timedelta(seconds=PULSE_S),
            graceful_shutdown_timeout=_GRACE,
        )
        # The border watches turns, and its message names the line. What it cannot end, as a call
        # that does not come back, is left to the SDK.
        assert self._worker._workflow_worker is not None
        self._worker._workflow_worker._deadlock_timeout_seconds = _NO_RETURN_S
        self._running = loop.create_task(self._worker.run(), context=self._protected.context)
        enter_passage()
        self._stopping: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """How many attempts of activities are running here."""
        return self._activities.count

    @property
    def done(self) -> bool:
        """Whether it has stopped."""
        return self._running.done()

    def raise_if_broken(self) -> None:
        """Raise `UnavailableError` if it stopped by itself, as without permission to poll."""
        if self._running.done() and not self._running.cancelled():
            error = self._running.exception()
            if error is not None:
                cause = error.__cause__ or error
                raise UnavailableError(
                    f"the worker has stopped: {cause}", hint="check it with: belugawf doctor"
                ) from error

    def stop(self) -> None:
        """Take nothing more; attempts in flight go on, and are reported as they end."""
        self._activities.stop_starting()
        if self._stopping is None:
            loop = asyncio.get_running_loop()
            self._stopping = loop.create_task(self._shut_down(), context=self._protected.context)

    async def _shut_down(self) -> None:
        if not self._running.done():
            await self._worker.shutdown()

    def interrupt(self) -> None:
        """A signal has come that ends this process: what fails from now on was interrupted."""
        self._activities.interrupt()

    def cut(self) -> None:
        """Stop the attempts in flight: the server hands them to another worker."""
        self._activities.cut()

    async def drained(self, timeout_s: float | None) -> bool:
        """Wait until it has stopped, for so many seconds at most; whether it has."""
        waits = [self._running] if self._stopping is None else [self._running, self._stopping]
        _, pending = await asyncio.wait(waits, timeout=timeout_s)
        return not pending

    async def close(self, *, unwind: bool = True) -> None:
        """Stop and wait for what is in flight; then let go of the runs in memory, or leave them."""
        self.stop()
        assert self._stopping is not None
        await asyncio.wait([self._stopping, self._running])
        await self._activities.close()
        await self.environment.close()
        if unwind:
            loop = asyncio.get_running_loop()
            for instance in list(self._runner.instances):
                await loop.run_in_executor(self._turns, instance.let_go)
        else:
            _LEFT_BEHIND.extend(self._runner.instances)
        self._turns.shutdown(wait=False)
        self.environment.border.close()
        self._protected.close()
        leave_passage()
