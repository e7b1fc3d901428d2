"""What `run` starts: which workflow, with what input, under what id."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from belugawf.executor import UNSET
from belugawf.model.errors import (
    PayloadTypeError,
    RunNotFoundError,
    UsageError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.cli.session import Session
    from belugawf.executor import DurableExecutor, IfExists, RunInfo, WorkflowHandle


@frozen(kw_only=True)
class Start:
    """What is to be started, before the workflow's parameters are known."""

    workflow: str | None
    text: str | None
    arguments: Mapping[str, str]
    id: str | None
    if_exists: IfExists
    timeout: timedelta | None
    labels: Mapping[str, str]
    detach: bool

    async def existing(self, executor: DurableExecutor) -> RunInfo | None:
        """The run that is stored under the id, if it is to be left as it is."""
        if self.if_exists != "skip" or self.id is None:
            return None
        try:
            info = await executor.describe(self.id)
        except RunNotFoundError:
            return None
        # Not a run that has it as its run id.
        return info if info.workflow_id == self.id else None

    async def begin(self, session: Session, executor: DurableExecutor) -> WorkflowHandle:
        """Record the run. Raises what `execute` raises."""
        name = self.workflow or _only_workflow(session, executor)
        definition = executor.catalog.workflow(name)
        try:
            return await executor.execute(
                name,
                id=self.id,
                input=self._input_for(definition),
                timeout=self.timeout,
                if_exists=self.if_exists,
                labels=self.labels,
                detach=self.detach,
            )
        except PayloadTypeError as error:
            hint = error.hint or f"see what {name!r} takes: {session.command('workflows')}"
            raise PayloadTypeError(error.path, error.expected, error.found, hint=hint) from None

    def _input_for(self, definition: Any) -> Any:
        if self.arguments:
            return definition.parse_arguments(self.arguments)
        return UNSET if self.text is None else definition.parse_input(self.text)


def _only_workflow(session: Session, executor: DurableExecutor) -> str:
    if session.settings.default_workflow:
        return session.settings.default_workflow
    catalog = executor.catalog
    names = list(catalog.workflows)
    if len(names) == 1:
        return names[0]
    if names:
        raise UsageError("name the workflow to run", hint="there are: " + ", ".join(names))
    if catalog.problems:
        raise WorkflowLoadError(
            f"no workflow could be loaded: {catalog.problems[0]}",
            hint="fix that module, then try again: belugawf workflows",
        )
    raise WorkflowNotFoundError(
        f"there is no workflow in {session.settings.workflows}",
        hint="make an example with: belugawf init",
    )
