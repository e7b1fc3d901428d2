"""init: a configuration and an example workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from belugawf.cli.render import escape
from belugawf.cli.session import Session
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import UnavailableError
from belugawf.model.shell import command_line

_CONFIGURATION = """\
# belugawf: everything here is optional; these are the defaults.
workflows: workflows
db: .belugawf/state.db
"""

_EXAMPLE = '''\
"""An example: greet somebody, after a person has agreed to it."""

from belugawf import RetryPolicy, SignalTimeoutError, WorkflowContext, activity, workflow


@activity(retry=RetryPolicy(max_attempts=3, initial_delay="1s"), timeout="30s")
def compose(name: str) -> str:
    """Activities do the real work: call services, read files. Each result is recorded."""
    return f"Hello, {name}!"


@workflow
async def greeting(ctx: WorkflowContext, name: str) -> str:
    """Compose a greeting and wait for an approval."""
    text = await ctx.execute_activity(compose, name)
    try:
        approval = await ctx.wait_for_signal(
            "approval", timeout="24h", type=bool, prompt=f"Send {text!r}?"
        )
    except SignalTimeoutError:
        return "Nobody answered."
    return text if approval.payload else "Not approved."
'''


def command(
    session: Session,
    directory: Annotated[
        str | None,
        typer.Argument(metavar="DIR", help="Where; here, unless given.", show_default=False),
    ] = None,
) -> None:
    """Write a configuration and an example workflow.

    What exists is left as it is.
    """
    root = Path(directory) if directory is not None else Path()
    created: list[Path] = []
    existing: list[Path] = []
    for path, text in (
        (root / ".belugawf.yaml", _CONFIGURATION),
        (root / "workflows" / "greeting.py", _EXAMPLE),
    ):
        (created if _write_new(path, text) else existing).append(path)
    if session.json:
        session.print_json(
            {
                "schema": "belugawf.init/1",
                "created": [str(path) for path in created],
                "existing": [str(path) for path in existing],
            }
        )
        return
    for path in created:
        STREAMS.write(f"{escape(path)}\n")
    for path in existing:
        session.say(f"{escape(path)} exists already and was left as it is")
    place = Path(session.flags.directory or ".") / root
    here = [] if place == Path() else ["-C", str(place)]
    session.say(
        "next: " + escape(command_line("run", "greeting", flags=here, options=("-i", "Ada")))
    )


def _write_new(path: Path, text: str) -> bool:
    """Write a file that does not exist yet; whether it was written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if path.parent.is_dir():
            return False
        raise UnavailableError(
            f"{path.parent} isn't a directory", hint="choose another place: belugawf init DIR"
        ) from None
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be written: {error.strerror}", hint="check the directory's permissions"
        ) from None
    return True
