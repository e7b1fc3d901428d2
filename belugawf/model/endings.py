"""How a run ended that did not complete, or why a wait for its end is over: errors of callers.

They stand in the tree of `model.errors`.
"""

from __future__ import annotations

from belugawf.model.errors import BelugaError, Failure


class OutcomeError(BelugaError):
    """How a run ended, when it did not complete. `workflow_id` and `run_id` name it."""

    code = "outcome"

    def __init__(
        self,
        message: str,
        *,
        workflow_id: str,
        run_id: str,
        failure: Failure | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.failure = failure


class WorkflowFailedError(OutcomeError):
    """The workflow's code raised; `failure` has its type, message and traceback."""

    code = "workflow_failed"
    exit_code = 3


class WorkflowCancelledError(OutcomeError):
    code = "workflow_cancelled"
    exit_code = 4


class WorkflowTerminatedError(OutcomeError):
    code = "workflow_terminated"
    exit_code = 4


class WorkflowTimedOutError(OutcomeError):
    code = "workflow_timed_out"
    exit_code = 5


class RunParkedError(OutcomeError):
    """The run is open, and cannot go on before its code is mended. `problem` is the code of why.

    `traceback` is the author's, as text, if their code raised.
    """

    code = "run_parked"
    exit_code = 13

    def __init__(
        self,
        message: str,
        *,
        workflow_id: str,
        run_id: str,
        problem: str,
        traceback: str | None = None,
        hint: str | None = None,
        exit_code: int = 13,
    ) -> None:
        super().__init__(message, workflow_id=workflow_id, run_id=run_id, hint=hint)
        self.problem = problem
        self.traceback = traceback
        self.exit_code = exit_code


class NotFinishedError(OutcomeError):
    """The run has not ended, and nobody who could drive it was found."""

    code = "not_finished"
    exit_code = 8


class WaitExpiredError(BelugaError):
    """`max_wait` passed before the run came to where it was waited for."""

    code = "wait_expired"
    exit_code = 124
