"""The arguments of what callers call: one table, by the names of parameters, for all providers.

An argument of a wrong type is told at the call, before anything is read or written. What needs a
database, or modules, to be judged (whether there is such a run, a workflow, an input that fits) is
left to the methods, and so are payloads, which may be anything that JSON can hold.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from pathlib import Path
from types import FunctionType, NoneType
from typing import Any, TypeAlias, TypeVar, cast

from belugawf.executor.info import STATES, STATUSES
from belugawf.model import checking
from belugawf.model.durations import parse_duration
from belugawf.model.errors import UsageError
from belugawf.model.levels import LEVELS, level_number
from belugawf.model.messages import Hooks, Signal

# Gets how messages call the argument, such as "limit of list()", and its value.
Check: TypeAlias = Callable[[str, Any], object]
# The flag of code that takes `**options`.
_VARKEYWORDS = 0x08

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


def _or_none(check: Check) -> Check:
    return lambda what, value: None if value is None else check(what, value)


def _said(what: str, value: Any) -> None:
    checking.text(what, value, empty=True)


def _duration(what: str, value: Any) -> None:
    parse_duration(value, what=what)


def _at_least(least: int) -> Check:
    return lambda what, value: checking.whole(what, value, least=least)


def _choice(*choices: str) -> Check:
    return lambda what, value: checking.choice(what, value, choices)


def _instance(kind: type | tuple[type, ...], hint: str) -> Check:
    def check(what: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise checking.wrong(what, value, hint)

    return check


def _callable(what: str, value: Any) -> None:
    if not callable(value):
        raise checking.wrong(what, value, "give a function")


def _each(check: Check, hint: str, *, alone: Check | None = None) -> Check:
    """A sequence of what `check` takes; or one by itself, if that is tried by `alone`."""

    def check_each(what: str, value: Any) -> None:
        if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
            for number, item in enumerate(value, 1):
                check(f"item {number} of {what}", item)
        elif alone is None:
            raise checking.wrong(what, value, hint)
        else:
            alone(what, value)

    return check_each


def check_labels(what: str, value: Any) -> None:
    """Texts by names, as runs have them."""
    if not isinstance(value, Mapping):
        raise checking.wrong(what, value, "give a mapping of texts to texts")
    for name, label in value.items():
        checking.text(f"a name in {what}", name)
        checking.text(f"a value in {what}", label, empty=True)


def _workflow(what: str, value: Any) -> None:
    if isinstance(value, str):
        checking.text(what, value)
    else:
        checking.function(what, value)


def _signal(what: str, value: Any) -> None:
    if isinstance(value, str):
        checking.text(what, value)
    elif not isinstance(value, Signal):
        raise checking.wrong(what, value, "give its name, or a Signal")


def _path(what: str, value: Any) -> None:
    if not isinstance(value, str | Path) or not value:
        raise checking.wrong(what, value, "give a path, as a text or a Path")
    try:
        fits = b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise UsageError(f"{what} isn't a path", hint="give a text without NUL and surrogates")


def _level(what: str, value: Any) -> None:
    if not isinstance(value, str) or level_number(value) is None:
        raise checking.wrong(what, value, f"give one of {', '.join(LEVELS)}")


def _has(attribute: str, hint: str) -> Check:
    """An object of a part that is not imported here, known by what it has."""

    def check(what: str, value: Any) -> None:
        if isinstance(value, type) or not hasattr(value, attribute):
            raise checking.wrong(what, value, hint)

    return check


def _tls(what: str, value: Any) -> None:
    if not isinstance(value, bool):
        _has("server_name", "give True, False or TlsFiles")(what, value)


_HOOKS = _instance(Hooks, "give Hooks, or several in a list")
_WORKFLOWS = "give a folder, or the functions in a list"

# What a parameter of that name takes, or of "function.parameter" where that differs. `None` is what
# is checked elsewhere: a payload by its codec, an id by `checked_id`.
CHECKS: dict[str, Check | None] = {
    "activity": _or_none(checking.text),
    "after": _or_none(_at_least(0)),
    "api_key": _or_none(checking.text),
    "awaiting": _or_none(checking.text),
    "by": _or_none(_said),
    "clock": _or_none(_has("now", "give a Clock")),
    "concurrency": _or_none(_at_least(1)),
    "context": _or_none(_instance(Context, "give a contextvars.Context")),
    "create": checking.flag,
    "db": _or_none(_path),
    "detach": checking.flag,
    "discard": checking.flag,
    "drive": checking.flag,
    "drives": checking.flag,
    "dry_run": checking.flag,
    "durability": _or_none(_choice("full", "normal")),
    "execute.id": _or_none(_said),
    "execute.workflow": _workflow,
    "factory": _callable,
    "from_position": _or_none(_at_least(1)),
    "grace": _or_none(_duration),
    "hooks": _or_none(_each(_HOOKS, "give Hooks", alone=_HOOKS)),
    "host": checking.text,
    "if_exists": _choice("fail", "skip", "replace"),
    "input": None,
    "labels": _or_none(check_labels),
    "level": _or_none(_level),
    "limit": _or_none(_at_least(0)),
    "count.limit": _at_least(0),
    "max_time": _or_none(_duration),
    "max_wait": _or_none(_duration),
    "middleware": _each(_callable, "give a function", alone=_callable),
    "name": checking.text,
    "namespace": checking.text,
    "older_than": _duration,
    "own_process": checking.flag,
    "patience": _duration,
    "payload": None,
    "provider": checking.text,
    "reason": _or_none(_said),
    "rerun.id": _or_none(_said),
    "resume.id": _or_none(_each(checking.text, "name runs by texts", alone=checking.text)),
    "run": checking.text,
    "runs": _each(checking.text, "give run ids in a list"),
    "settings": _or_none(_has("activity_defaults", "give the Settings that were loaded")),
    "signal": _or_none(checking.text),
    "signal_many.signal": _instance(Signal, "give a Signal"),
    "signal.run": _or_none(checking.text),
    "signal.signal": _signal,
    "since": _or_none(_duration),
    "state": _or_none(_choice(*STATES)),
    "status": _or_none(_choice(*STATUSES)),
    "prune.status": _or_none(checking.text),
    "task_queue": checking.text,
    "timeout": _or_none(_duration),
    "tls": _tls,
    "until": _or_none(_duration),
    "wait.until": checking.text,
    "vacuum": checking.flag,
    "workflow": _or_none(checking.text),
    "workflows": _or_none(_each(checking.function, _WORKFLOWS, alone=_path)),
}
# Types of which every value is taken here. They need no call: starting runs is what happens often.
_TAKEN: dict[str, frozenset[type]] = {
    "detach": frozenset({bool}),
    "drive": frozenset({bool}),
    "execute.id": frozenset({str, NoneType}),
    "execute.workflow": frozenset({FunctionType}),
}


def check_of(function: str, parameter: str) -> Check | None:
    """What the table has for it. Raises `KeyError`."""
    name = f"{function}.{parameter}"
    return CHECKS[name] if name in CHECKS else CHECKS[parameter]


def checked(function: F, name: str | None = None, *, others: bool = True) -> F:
    """The function, with its arguments checked at the call, though it be a coroutine function's.

    `name` is how callers know it. Only what is given is checked, defaults are not. `others`: what
    its `**options` get is checked too.
    """
    called = name or function.__name__
    # As `inspect.signature` has them, which takes twenty times as long: each process pays for it.
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    wanted = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    checks: dict[str, tuple[str, frozenset[type], Check]] = {}
    if others and code.co_flags & _VARKEYWORDS:
        wanted += tuple(CHECKS)
    for parameter in wanted:
        check = None if parameter == "self" else check_of(called, parameter)
        if check is not None:
            taken = _TAKEN.get(f"{called}.{parameter}", _TAKEN.get(parameter, frozenset()))
            checks[parameter] = (f"{parameter} of {called}()", taken, check)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        for parameter, value in (*zip(names, args, strict=False), *options.items()):
            if parameter in checks:
                what, taken, check = checks[parameter]
                if type(value) not in taken:
                    check(what, value)
        return function(*args, **options)

    return cast(F, call)


def checks_arguments(cls: C) -> C:
    """A class decorator: all public methods of that class itself are `checked`."""
    for name, member in list(vars(cls).items()):
        if isinstance(member, FunctionType) and not name.startswith("_"):
            setattr(cls, name, checked(member))
    return cls
