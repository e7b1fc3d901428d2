"""One command's use of the executor: configuration, event loop, signals, and how it talks."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import typer

from belugawf.cli import exits, options
from belugawf.cli.app import Globals
from belugawf.cli.render import Paint, escape, escape_lines, json_text
from belugawf.cli.streams import STREAMS
from belugawf.model.errors import ConfigurationError, RunNotFoundError
from belugawf.model.shell import command_line
from belugawf.probe import probe_of

if TYPE_CHECKING:
    import asyncio

    from belugawf.config import Settings
    from belugawf.executor import DurableExecutor, Hooks
    from belugawf.model.redaction import Redaction

T = TypeVar("T")

# The signals that end a command, with its exit code; a terminal that is closed sends the last one.
ENDING_SIGNALS = {
    signal.SIGINT: exits.INTERRUPTED,
    signal.SIGTERM: exits.TERMINATED,
    signal.SIGHUP: exits.TERMINATED,
}


class Interrupted(Exception):
    """A signal ended the command; `number` is which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = ENDING_SIGNALS.get(signal.Signals(number), exits.INTERRUPTED)


def settings_of(flags: Globals, *, directory: Path | None = None) -> Settings:
    """The configuration under these flags, looked for from `directory` (`None`: from here).

    Raises `ConfigurationError`.
    """
    from belugawf.config import load_settings

    overrides = {"db": flags.db, "workflows": flags.workflows, "provider": flags.provider}
    return load_settings(
        config=flags.config,
        directory=directory,
        overrides={key: value for key, value in overrides.items() if value is not None},
    )


class Session:
    """What a command needs: flags, settings, an executor, and a voice.

    Every command has the flags of `__init__`.
    """

    def __init__(
        self,
        ctx: typer.Context,
        *,
        json: options.Json = False,
        quiet: options.Quiet = False,
        verbose: options.Verbose = False,
    ) -> None:
        self.flags = Globals.of(ctx)
        self.word: str = ctx.info_name or ""
        self.json = json
        self.quiet = quiet or json
        self.verbose = verbose
        self.paint = Paint(self.flags.color, STREAMS.data_is_terminal())
        self.talk_paint = Paint(self.flags.color, STREAMS.talk_is_terminal())
        self.talk_terminal = STREAMS.talk_is_terminal()
        self.data_terminal = STREAMS.data_is_terminal()
        self.interrupted: int | None = None
        self._redaction: Redaction | None = None
        self._on_signal: Callable[[int], None] | None = None
        self._executor: DurableExecutor | None = None
        if self.flags.directory is not None:
            _enter(self.flags.directory)

    # -- what it stands on -----------------------------------------------------------------------

    @cached_property
    def settings(self) -> Settings:
        """The configuration, read on first use. Raises `ConfigurationError`."""
        from belugawf.config import unknown_variables

        for sentence in unknown_variables(os.environ):
            self.say(f"warning: {escape(sentence)}")
        return settings_of(self.flags)

    @property
    def nothing_stored(self) -> bool:
        return probe_of(self.settings.provider).nothing_stored(self.settings)

    def say_nothing_stored(self, *, always: bool = True) -> None:
        """Say that there is no database, and which one was looked for.

        With --json and --quiet, and without `always`, only if that looks like a mistake.
        """
        line = f"there is no run yet: {escape(self.settings.db)} does not exist"
        if self.seems_misplaced:
            STREAMS.say(f"warning: {line}")
        elif always:
            self.say(line)

    @property
    def place(self) -> str:
        """Where the runs are that this command sees."""
        settings = self.settings
        if settings.provider == "default":
            return str(settings.db)
        if settings.provider == "temporal":
            where = settings.temporal
            return f"task queue {where.task_queue} at {where.host}"
        return settings.provider

    def _how_to_begin(self) -> str:
        start = f"start one with: {self.command('run')}"
        if not self.seems_misplaced:
            return start
        return f"name another database with --db, or its folder with -C; or {start}"

    @property
    def seems_misplaced(self) -> bool:
        """Whether a missing database looks like a mistake: somebody named it, or nothing else that
        belongs to us is here either."""
        settings = self.settings
        named = settings.sources.get("db") in ("flag", "environment")
        return named or (settings.source is None and not settings.workflows.is_dir())

    def executor(self, *, hooks: Sequence[Hooks] = (), create: bool = False) -> DurableExecutor:
        """The executor that the configuration names; with `create` it may create its database."""
        from belugawf.executor import new_executor

        options: dict[str, Any] = {"settings": self.settings, "hooks": hooks}
        if self.settings.provider == "default":
            # `main` ends by os._exit: what is suspended in memory is left as it is.
            options |= {"create": create, "own_process": True}
        elif self.settings.provider == "temporal":
            # Workers drive there: `worker`, or `resume` for a while.
            options |= {"drives": False, "own_process": True}
        executor = new_executor(self.settings.provider, **options)
        if not self.settings.redact:
            return executor
        from belugawf.executor.redacting import RedactingExecutor

        if self._redaction is None:
            self._redaction = redact_talk(self.settings)
        return cast("DurableExecutor", RedactingExecutor(executor, self._redaction))

    def run(
        self,
        work: Callable[[DurableExecutor], Awaitable[T]],
        *,
        create: bool = False,
        check: Callable[[DurableExecutor], None] | None = None,
    ) -> T:
        """Call `work` with an entered executor, on an event loop of its own.

        If nothing is stored yet, `check` is called before anything is created. Raises
        `RunNotFoundError` if nothing may be created, and `Interrupted` after SIGINT, SIGTERM or
        SIGHUP, unless `work` handles them.
        """
        if not create and self.nothing_stored:
            raise RunNotFoundError(
                f"there is no run yet: {self.settings.db} does not exist",
                hint=self._how_to_begin(),
            )

        async def entered() -> T:
            executor = self.executor(create=create)
            if check is not None and self.nothing_stored:
                check(executor)
            async with executor:
                # Until `work` answers signals itself; as the executor is left, they end here.
                self._executor = executor
                return await work(executor)

        return self.run_loop(entered())

    def run_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a new event loop, with the signals handled.

        The loop is shared with users' activities. What they do to it ends neither: it is entered
        again, and `work` is none of `asyncio.all_tasks()`, which some code cancels.
        """
        import asyncio

        from belugawf.host.border import Signalled
        from belugawf.host.loops import hidden_task, run_until_done

        try:
            loop = asyncio.new_event_loop()
        except OSError:
            work.close()  # else Python says that it never ran
            raise
        self._on_signal = None
        # What `nohup` has made it ignore stays ignored.
        hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        numbers = [number for number in ENDING_SIGNALS if hangs_up or number != signal.SIGHUP]
        try:
            # Some libraries that users call from activities still ask for the current loop.
            asyncio.set_event_loop(loop)
            task = hidden_task(loop, work)
            for number in numbers:
                loop.add_signal_handler(number, self._handle_signal, task, number)
            try:
                return run_until_done(loop, task)
            except asyncio.CancelledError:
                if self.interrupted is None:
                    raise
                raise Interrupted(self.interrupted) from None
            except Signalled as error:
                raise Interrupted(error.number) from None
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
            asyncio.set_event_loop(None)
            # Threads of activities may still run; closing does not wait for them.
            loop.close()

    def on_signal(self, handler: Callable[[int], None]) -> None:
        """Let `handler` answer signals from now on, also while the executor drains as it is left.

        It may be called several times.
        """
        self._on_signal = handler

    def _handle_signal(self, task: asyncio.Task[Any], number: int) -> None:
        self.interrupted = number
        if self._on_signal is not None:
            self._on_signal(number)
        else:
            if self._executor is not None:
                self._executor.interrupt()
            task.cancel()

    # -- what it says ----------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A line for people on stderr, unless quiet or JSON."""
        if not self.quiet:
            STREAMS.say(text)

    def print_json(self, value: Any) -> None:
        """The one JSON document of the command."""
        STREAMS.write(json_text(value) + "\n")

    def print_value(self, value: Any) -> None:
        """A result on stdout: text as it is, anything else as JSON."""
        if not isinstance(value, str):
            self.print_json(value)
            return
        # A terminal would obey control characters; a pipe gets what the workflow returned.
        text = escape_lines(value) if self.data_terminal else value
        STREAMS.write(text if text.endswith("\n") else text + "\n")

    def command(self, word: str, *names: str, options: Sequence[str] = ()) -> str:
        """A command as it must be typed, with this command's global flags.

        `names` are users' texts, and quoted. See `model.shell`.
        """
        return command_line(word, *names, flags=self.flags.flags(), options=options)


def _enter(directory: Path) -> None:
    """Work as if started there: activities meet the same relative paths as after `cd`."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise ConfigurationError(
            f"cannot work in directory {str(directory)!r}: {error.strerror}",
            hint="create it, or name another one",
        ) from None


def redact_talk(settings: Settings) -> Redaction:
    """Mask secrets in whatever this process says or logs from now on, by these settings."""
    from belugawf.host.masking import mask_logs

    redaction = mask_logs(settings.redact)
    STREAMS.mask_with(redaction.text)
    return redaction


def unredacted(executor: DurableExecutor) -> DurableExecutor:
    """The executor that returns results unmasked: a result that was asked for must be usable."""
    return cast("DurableExecutor", getattr(executor, "unredacted", executor))


def os_user() -> str | None:
    """The name of the person at the keyboard, `None` if the system has none."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, OSError):
        return os.environ.get("USER") or None
