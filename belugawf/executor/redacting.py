"""An executor whose answers are masked: what the command line shows if `redact` is configured.

It masks what is shown (runs, histories, waits, answers to queries), and nothing that is stored,
sent or handed to user code.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from dataclasses import fields, replace
from inspect import isawaitable
from typing import Any, Unpack

from belugawf.executor.handle import WorkflowHandle
from belugawf.executor.info import (
    ActivityState,
    Delivery,
    LogFilters,
    LogLine,
    OpenWait,
    RunInfo,
    Summary,
)
from belugawf.executor.protocol import DurableExecutor
from belugawf.model.errors import BelugaError
from belugawf.model.events import Event
from belugawf.model.redaction import Redaction

# Names by which runs and their parts are found again, and words of ours.
_NAMES = frozenset({"workflow_id", "run_id", "name", "activity_id", "schema", "expected", "code"})


class RedactingExecutor:
    """`unredacted`, with masked answers. What is not here is the other's."""

    def __init__(self, unredacted: DurableExecutor, redaction: Redaction) -> None:
        self.unredacted = unredacted
        self.redaction = redaction

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.unredacted, name)
        if not callable(member):
            return member

        def call(*args: Any, **options: Any) -> Any:
            answer = member(*args, **options)
            return self._answer(answer) if isawaitable(answer) else answer

        return call

    async def __aenter__(self) -> RedactingExecutor:
        await self.unredacted.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.unredacted.__aexit__(*exc)

    # -- runs ------------------------------------------------------------------------------------

    async def execute(self, *args: Any, **options: Any) -> WorkflowHandle:
        handle = await self.unredacted.execute(*args, **options)
        return WorkflowHandle(self, handle.id, handle.run_id)

    async def rerun(self, *args: Any, **options: Any) -> WorkflowHandle:
        handle = await self.unredacted.rerun(*args, **options)
        return WorkflowHandle(self, handle.id, handle.run_id)

    async def result_of(self, run: str) -> Any:
        """The result itself, for further work with it."""
        return await self.unredacted.result_of(run)

    # -- parts of runs ---------------------------------------------------------------------------

    async def activities(self, run: str) -> Sequence[ActivityState]:
        await self._learn(run)
        return [self._mask_texts(state) for state in await self.unredacted.activities(run)]

    async def history(self, run: str, *, after: int | None = None) -> Sequence[Event]:
        if after:
            await self._learn(run)
        history = await self.unredacted.history(run, after=after)
        self._learn_from(history)
        return [self._event(event) for event in history]

    async def logs(self, run: str, **filters: Unpack[LogFilters]) -> Sequence[LogLine]:
        await self._learn(run)
        lines = await self.unredacted.logs(run, **filters)
        return [replace(line, message=self.redaction.text(line.message)) for line in lines]

    async def query(self, run: str, name: str, *args: Any) -> Any:
        await self._learn(run)
        answer = await self.unredacted.query(run, name, *args)
        self.redaction.learn(answer)
        return self.redaction.data(answer)

    # -- masking ---------------------------------------------------------------------------------

    async def _answer(self, answer: Awaitable[Any]) -> Any:
        return await self._masked(await answer)

    async def _masked(self, value: Any) -> Any:
        """An answer of the executor, masked by its type."""
        match value:
            case RunInfo():
                return await self._run(value)
            case OpenWait():
                return await self._open_wait(value)
            case Delivery():
                return replace(value, run=await self._run(value.run))
            case Summary():
                return replace(
                    value,
                    waits=await self._masked(value.waits),
                    attention=await self._masked(value.attention),
                )
            case list() | tuple():
                return [await self._masked(item) for item in value]
        return value

    async def _run(self, info: RunInfo) -> RunInfo:
        mask = self.redaction
        for data in (info.input, info.result, info.progress, dict(info.labels)):
            mask.learn(data)
        if info.error is not None or info.waiting_for:
            # A message may quote what only an activity was given.
            await self._learn(info.run_id)
        error = None if info.error is None else self._mask_texts(info.error)
        return replace(
            info,
            input=mask.data(info.input),
            result=mask.data(info.result),
            progress=mask.data(info.progress),
            labels=mask.data(dict(info.labels)),
            error=error,
            waiting_for=tuple(self._mask_texts(wait) for wait in info.waiting_for),
            problem=None if info.problem is None else self._mask_texts(info.problem),
        )

    async def _open_wait(self, wait: OpenWait) -> OpenWait:
        if wait.prompt is not None:
            await self._learn(wait.run_id)
        masked: OpenWait = self._mask_texts(wait)
        return masked

    async def _learn(self, run: str) -> None:
        try:
            self._learn_from(await self.unredacted.history(run))
        except BelugaError:
            return  # reading the history itself reports it

    def _learn_from(self, history: Sequence[Event]) -> None:
        for event in history:
            payload = getattr(event, "payload", None)
            if payload is not None:
                self.redaction.learn(json.loads(payload))

    def _event(self, event: Event) -> Event:
        payload = getattr(event, "payload", None)
        changed = {} if payload is None else {"payload": self.redaction.json_text(payload)}
        masked: Event = self._mask_texts(event, **changed)
        return masked

    def _mask_texts(self, value: Any, **changed: Any) -> Any:
        """The dataclass with its texts masked, but for the names that commands take."""
        for field in fields(value):
            text = getattr(value, field.name)
            if isinstance(text, str) and field.name not in _NAMES and field.name not in changed:
                masked = self.redaction.text(text)
                if masked != text:
                    changed[field.name] = masked
        return replace(value, **changed) if changed else value
