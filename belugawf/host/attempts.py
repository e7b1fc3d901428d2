"""The attempts of activities that are in flight in this process: limits, heartbeats, ends.

An attempt is started once and ends in one `Outcome`, handed to the engine. It can be stopped before
(timed out, cancelled, cut): what it returns after that is ignored.

Not every failure is one. After a signal that ends the process (`interrupt`) an attempt that fails
was interrupted: a terminal and systemd send the signal to what it has started as well. So was one
whose task somebody else has cancelled, a few times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context

from belugawf.host.attempt import Attempt, AttemptSpec, Key, Reports
from belugawf.host.clock import Clock
from belugawf.host.launcher import AttemptLauncher
from belugawf.host.logs import LineBuffer
from belugawf.host.loops import step_now
from belugawf.model.outcomes import Outcome

# How long an attempt that was told to stop may take to do so when the process ends, in seconds.
_FAREWELL_S = 1.0
# How long it may take until a signal that has ended a child of ours is known to us too, in seconds.
_SIGNAL_S = 0.05
# How often an attempt that somebody else cancels starts again before that is its failure.
_MAX_DISTURBANCES = 3


class AttemptRunner:
    """All attempts in flight in this process. Lives on the engine's loop.

    `deliver` is called on the loop with each outcome. `keep` are descriptors that are held until
    nothing is left of an isolated activity, so that its run is not taken over before.
    `on_begun` is called when a queued attempt has found a thread, so that its limits are looked at.
    `on_orphan_ended` is told of a run for which something has ended at last that nobody waited for.
    Each attempt begins in a copy of `context`, by default an empty one. `lines` keeps what they
    log.
    """

    def __init__(
        self,
        deliver: Callable[[Outcome], None],
        clock: Clock,
        *,
        threads: int,
        payload_limit: int,
        keep: Callable[[], tuple[int, ...]] = tuple,
        on_orphan_ended: Callable[[int], None] = lambda run: None,
        on_begun: Callable[[], None] = lambda: None,
        context: Context | None = None,
        lines: LineBuffer | None = None,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._on_orphan_ended = on_orphan_ended
        self._on_begun = on_begun
        self._launcher = AttemptLauncher(
            Context() if context is None else context,
            threads=threads,
            payload_limit=payload_limit,
            keep=keep,
            begun=self._begun,
            ended=self._ended,
        )
        self._attempts: dict[Key, Attempt] = {}
        self._heartbeats = Reports(payload_limit, lines)
        self._next_limit: int | None = None
        self._orphans: Counter[int] = Counter()
        self._when_over: Callable[[], None] | None = None
        self._disturbances: Counter[tuple[str, str]] = Counter()
        self._interrupted = False

    # -- what the engine asks --------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many attempts are in flight."""
        return len(self._attempts)

    def all(self) -> list[Attempt]:
        """All attempts in flight."""
        return list(self._attempts.values())

    def at_work(self, run: int) -> bool:
        """Whether anything still runs for that run: what was stopped may take its time."""
        return run in self._orphans or bool(self._of(run))

    def is_ending(self, run: int) -> bool:
        """Whether something of that run was stopped, and has not come to its end."""
        return run in self._orphans

    def interrupt(self) -> None:
        """A signal has come that ends this process: whatever fails from now on was interrupted.

        Not what may run only once: what it raised is all that is known of it.
        """
        self._interrupted = True

    @property
    def reported(self) -> bool:
        """Whether any attempt has reported something since `take_heartbeats`."""
        return bool(self._heartbeats)

    def take_heartbeats(self) -> list[tuple[int, int, str]]:
        """What attempts reported since the last call: (run, seq, JSON) each."""
        beats, waiting = [], self._heartbeats
        while waiting:
            (run, seq), text = waiting.popitem()
            beats.append((run, seq, text))
        return beats

    def put_back_heartbeats(self, beats: Sequence[tuple[int, int, str]]) -> None:
        """They could not be saved: they are taken the next time, unless there are newer ones."""
        for run, seq, text in beats:
            self._heartbeats.setdefault((run, seq), text)

    def forget_heartbeats(self, run: int) -> None:
        """What attempts of that run have reported is not to be saved any more."""
        for key in list(self._heartbeats):  # threads may add to it meanwhile
            if key[0] == run:
                self._heartbeats.pop(key, None)

    def next_limit(self) -> int | None:
        """The next moment at which `expire` may have to do something; perhaps too early."""
        return self._next_limit

    def start(self, spec: AttemptSpec) -> None:
        """Start an attempt; its outcome is delivered later, never from within this call."""
        attempt = Attempt(spec, self._clock, self._heartbeats)
        self._attempts[spec.run, spec.seq] = attempt
        self._launcher.start(attempt)
        if attempt.deadline is not None or spec.options.heartbeat_timeout is not None:
            self._track_deadline(attempt)

    def step_now(self, keys: Iterable[Key]) -> None:
        """Let what was just started on the loop run, up to where it waits for something.

        For the callback that has started these attempts, in its end. User code runs in this call.
        """
        tasks = []
        for key in keys:
            attempt = self._attempts.get(key)
            if attempt is not None and attempt.task is not None:
                tasks.append(attempt.task)
        step_now(tasks)

    def expire(self, now: int) -> None:
        """Stop the attempts that ran over a limit, and deliver that outcome."""
        if self._next_limit is None or now < self._next_limit:
            return
        self._next_limit = None
        for attempt in list(self._attempts.values()):
            limit = attempt.overdue(now)
            if limit is None:
                self._track_deadline(attempt)
                continue
            outcome = attempt.timed_out(limit, now)
            if attempt.spec.isolated:
                # It can be ended, and the next attempt must not begin beside what is left of it.
                attempt.condemn(outcome)
            else:
                self._stop(attempt)
                self._deliver(outcome)

    def cancel(self, run: int, seq: int) -> None:
        """Nobody waits for it any more: tell it, and forget what it will return."""
        attempt = self._attempts.get((run, seq))
        if attempt is not None:
            self._stop(attempt)

    def cancel_run(self, run: int) -> None:
        """The same for all attempts of a run."""
        for attempt in self._of(run):
            self._stop(attempt)

    def cut(self, run: int | None = None) -> None:
        """Stop everything now, or what runs for that run; each attempt ends as interrupted.

        What has ended by itself and waits to be delivered is delivered as it ended.
        """
        for attempt in self.all() if run is None else self._of(run):
            if attempt.over:
                self._settle(attempt)
            else:
                self._stop(attempt)
                self._deliver(attempt.ended("interrupted"))

    async def close(self) -> None:
        """Stop what is left, and give it a second to notice and clean up."""
        for attempt in self.all():
            self._stop(attempt)
        with contextlib.suppress(TimeoutError):  # it was told; a thread cannot be made to listen
            async with asyncio.timeout(_FAREWELL_S):
                while self._orphans:
                    await asyncio.sleep(_FAREWELL_S / 100)
        self._launcher.close()

    def when_over(self, callback: Callable[[], None]) -> None:
        """After `close`: call that as soon as nothing is at work any more, on whatever thread."""
        self._when_over = callback
        self._notify_if_over()

    def _notify_if_over(self) -> None:
        callback = self._when_over
        if callback is not None and not self._orphans:
            self._when_over = None
            callback()

    # -- the life of an attempt ------------------------------------------------------------------

    def _of(self, run: int) -> list[Attempt]:
        return [a for a in self._attempts.values() if a.spec.run == run]

    def _begun(self, attempt: Attempt) -> None:
        self._track_deadline(attempt)
        self._on_begun()

    def _track_deadline(self, attempt: Attempt) -> None:
        """Remember its next limit, so that `expire` looks at it in time."""
        limit = attempt.next_limit()
        if limit is not None and (self._next_limit is None or limit < self._next_limit):
            self._next_limit = limit

    def _stop(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.spec.key, None)
        if not attempt.over:
            self._orphans[attempt.spec.run] += 1
        attempt.abandon()

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Its code has come to its end: deliver how, unless it was stopped before."""
        outcome = attempt.end(outcome)
        if attempt.stopped:
            run = attempt.spec.run
            self._orphans[run] -= 1
            if not self._orphans[run]:
                del self._orphans[run]
            self._on_orphan_ended(run)
            self._notify_if_over()
            return
        if outcome.status == "failed" and not self._interrupted and _has_had_children():
            # Perhaps by a signal that has reached a child of ours before us. Once more around the
            # loop: what comes in with the timer is handled after it.
            loop = asyncio.get_running_loop()
            loop.call_later(_SIGNAL_S, loop.call_soon, self._settle, attempt)
        else:
            self._settle(attempt)

    def _settle(self, attempt: Attempt) -> None:
        key, outcome = (attempt.spec.run, attempt.spec.seq), attempt.verdict
        assert outcome is not None
        if self._attempts.get(key) is not attempt:
            return  # it was stopped meanwhile, or cut
        del self._attempts[key]
        if outcome.status == "failed" and self._was_interrupted(attempt, outcome):
            outcome = attempt.ended("interrupted")
        elif self._disturbances:
            self._disturbances.pop(_name_of(attempt.spec), None)
        self._deliver(outcome)

    def _was_interrupted(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Whether an attempt that has failed did so for no reason of its own."""
        if self._interrupted and not attempt.spec.options.at_most_once:
            return True
        # Before Python 3.13, a task whose own TaskGroup has failed is `cancelling` ever after.
        was_cancelled = outcome.failure is not None and outcome.failure.type == "CancelledError"
        if not was_cancelled or attempt.task is None or not attempt.task.cancelling():
            return False
        name = _name_of(attempt.spec)
        self._disturbances[name] += 1
        return self._disturbances[name] <= _MAX_DISTURBANCES


def _name_of(spec: AttemptSpec) -> tuple[str, str]:
    """What names an activity through all its attempts."""
    return (spec.run_id, spec.activity_id)


def _has_had_children() -> bool:
    """Whether this process has child processes, or had some: a signal may have ended one."""
    import resource  # where there are processes to speak of

    if resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:  # macOS before Python 3.13: it cannot be asked there
        return True
    return True
