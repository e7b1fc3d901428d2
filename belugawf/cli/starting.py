"""What `run` starts: which workflow, with what input, under what id."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from belugawf.authoring import activity
from belugawf.cli import options
from belugawf.cli.exits import outcome_message
from belugawf.cli.session import Session, unredacted
from belugawf.executor import UNSET
from belugawf.executor.arguments import check_labels
from belugawf.executor.checks import checked_id
from belugawf.executor.info import OPEN
from belugawf.model.errors import (
    AmbiguousRunError,
    BelugaError,
    PayloadTypeError,
    RunNotFoundError,
    UsageError,
    WorkflowLoadError,
    WorkflowNotFoundError,
)
from belugawf.model.values import frozen

if TYPE_CHECKING:
    from belugawf.authoring.loader import Catalog
    from belugawf.config import Settings
    from belugawf.executor import DurableExecutor, IfExists, RunInfo, WorkflowHandle


@frozen()
class Given:
    """The input as it was typed, before the workflow's parameters are known."""

    text: str | None
    arguments: Mapping[str, str]

    @classmethod
    def of(
        cls, session: Session, input: str | None, arg: Sequence[str] | None, file: str | None
    ) -> Given:
        """What the flags say. Raises `UsageError`."""
        given = {"--input": input is not None, "--arg": bool(arg), "--input-file": file is not None}
        options.only_one(given)
        if file is not None:
            most = session.settings.payload_limit
            input = options.read_text(file, "--input-file", most)
        return cls(input, options.pairs(arg, "--arg"))

    def value(self, definition: Any, recorded: Any = None) -> Any:
        """The input; with `--arg`, what `recorded` has beside. Raises `UsageError`."""
        if self.arguments:
            return definition.parse_arguments(self.arguments, recorded)
        return UNSET if self.text is None else definition.parse_input(self.text)


@frozen(kw_only=True)
class Start:
    """What is to be started, before the workflow's parameters are known."""

    workflow: str | None
    given: Given
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

    async def differences(
        self, session: Session, executor: DurableExecutor, found: RunInfo
    ) -> AsyncIterator[str]:
        """What a run that is left as it is has otherwise than was asked for."""
        name = self.workflow or session.settings.default_workflow
        if found.status not in (OPEN, "completed"):
            yield f"it has not completed: {outcome_message(found)}"
        if name is not None and name != found.workflow:
            yield f"it is a run of {found.workflow!r}, not of {name!r}"
        elif self.given.arguments or self.given.text is not None:
            stored = (await unredacted(executor).describe(found.run_id)).input
            # A workflow that is gone is no reason to stop: the run is only shown.
            with suppress(BelugaError):
                definition = executor.catalog.workflow(found.workflow)
                given = definition.encode_input(self.given.value(definition))
                if given is not None and json.loads(given) != stored:
                    yield "it has another input"

    def check(self, session: Session, executor: DurableExecutor) -> None:
        """Raise what `begin` would, as far as that is known before anything is created."""
        name = self.workflow or _only_workflow(session, executor)
        definition = definition_of(session, executor, name)
        if self.id is not None:
            checked_id(self.id)
        check_labels("labels", self.labels)
        with explained(session, name):
            value = self.given.value(definition)
            definition.encode_input(value, limit=session.settings.payload_limit)

    async def begin(self, session: Session, executor: DurableExecutor) -> WorkflowHandle:
        """Record the run. Raises what `execute` raises."""
        name = self.workflow or _only_workflow(session, executor)
        definition = await self._known(session, executor, name)
        with explained(session, name):
            return await executor.execute(
                name,
                id=self.id,
                input=self.given.value(definition),
                timeout=self.timeout,
                if_exists=self.if_exists,
                labels=self.labels,
                detach=self.detach,
            )

    async def _known(self, session: Session, executor: DurableExecutor, name: str) -> Any:
        """The workflow of that name. Raises `WorkflowNotFoundError`, if the name is a run's too."""
        try:
            return definition_of(session, executor, name)
        except WorkflowNotFoundError as error:
            with suppress(RunNotFoundError, AmbiguousRunError):
                info = await executor.describe(name)
                resume = session.command("resume", info.workflow_id)
                raise WorkflowNotFoundError(
                    f"there is no workflow {name!r}, but there is a run of that name",
                    hint=f"drive it with: {resume}",
                ) from None
            raise error


@contextmanager
def explained(session: Session, name: str) -> Iterator[None]:
    """An input that does not fit is told with where to see what would."""
    try:
        yield
    except PayloadTypeError as error:
        hint = error.hint or f"see what {name!r} takes: {session.command('workflows')}"
        raise PayloadTypeError(error.path, error.expected, error.found, hint=hint) from None


def definition_of(session: Session, executor: DurableExecutor, name: str) -> Any:
    """The workflow of that name, with which a run could go on.

    Raises `WorkflowNotFoundError` or `WorkflowLoadError`, which say where it was looked for.
    """
    try:
        definition = executor.catalog.workflow(name)
    except WorkflowNotFoundError as error:
        require_folder(session.settings, f"there is no workflow {name!r}")
        if name != session.settings.default_workflow:
            raise
        where = session.settings.source
        raise WorkflowNotFoundError(
            f"{error.message}, which {where} names as default_workflow", hint=error.hint
        ) from None
    _check_activities(executor.catalog, definition.function)
    return definition


def require_folder(settings: Settings, what: str) -> None:
    """Raise `WorkflowNotFoundError`, which begins with `what`, if there is no folder of modules."""
    folder = settings.workflows
    if folder.is_dir():
        return
    reason = "is not a folder" if folder.exists() else "does not exist"
    raise WorkflowNotFoundError(
        f"{what}: {folder} {reason}",
        hint="name the folder of the modules with --workflows, or make an example with: "
        "belugawf init",
    )


def _check_activities(catalog: Catalog, function: Callable[..., Any]) -> None:
    """Raise `WorkflowLoadError` if the workflow's code names an activity that two modules define.

    A run of it would be recorded, and get no further than that.
    """
    seen: set[Any] = set()
    codes = [(function.__code__, function.__globals__)]
    while codes:
        code, names = codes.pop()
        seen.add(code)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                codes.append((constant, names))
            elif isinstance(constant, str):
                catalog.check_activity(constant)
        for value in map(names.get, code.co_names):
            if type(value) is not FunctionType or value.__code__ in seen:
                continue
            if hasattr(value, activity.MARK):
                catalog.check_activity(activity.mark_of(value).name)
            elif value.__module__ == function.__module__:
                codes.append((value.__code__, value.__globals__))


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
    require_folder(session.settings, "there is no workflow")
    raise WorkflowNotFoundError(
        f"there is no workflow in {session.settings.workflows}",
        hint="make an example with: belugawf init",
    )
