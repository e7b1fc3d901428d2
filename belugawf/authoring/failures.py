"""Exceptions of user code as data: cut to the user's own frames, and without locals.

Everything about an exception is the user's: its texts, its attributes, its class. Any of them may
raise, be of an odd type, or have no end. So each is read by itself, through the descriptors of
Python's own classes if there are any, and what can't be read is left out. Whatever happens, a
`Failure` comes out, and it has a bound in size, in depth and in time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeGuard, TypeVar

from belugawf.authoring import activity
from belugawf.model.errors import (
    ActivityError,
    ApplicationError,
    Failure,
    UsageError,
    WorkflowCodeError,
)

T = TypeVar("T")

# Bytes, as JSON. A message is for people, and stands in full in one place; a traceback of 60 frames
# in each of 16 exceptions is some 60 KB.
_MAX_NAME = 200
_MAX_MESSAGE = 10_000
_MAX_IN_TRACEBACK = 2_000
_MAX_TRACEBACK = 60_000
# What says that something was left out.
_LONGEST_MARK = 60
# Of a chain or a traceback that is longer, so much is kept of each of its ends.
_CHAIN_ENDS = 8
_FRAME_ENDS = 30
# Exceptions that are described in all, those in groups included, and how deep groups are followed.
_MAX_EXCEPTIONS = 50
_MAX_DEPTH = 5
_MAX_MEMBERS = 15
# Links and frames that are followed to find the end.
_MAX_STEPS = 100_000

# What the author would not catch: the program is wrong, and mending it is all that helps.
_OF_WRONG_CODE = (
    *(NameError, AttributeError, TypeError, ImportError, SyntaxError, NotImplementedError),
    *(RecursionError, WorkflowCodeError, UsageError),
)

_CAUSED = "The above exception was the direct cause of the following exception:"
_HANDLING = "During handling of the above exception, another exception occurred:"


def describe_failure(error: BaseException) -> Failure:
    """An exception that left workflow or activity code, as data. It never raises.

    The traceback is cut to frames that are neither asyncio's nor ours, and has no locals.
    """
    try:
        return _describe(error)
    except BaseException:
        return Failure(_type_name(error), "the exception could not be described")


def in_one_line(error: BaseException) -> str:
    """Its type and its message. It never raises."""
    return f"{_type_name(error)}: {_text(error)}"


def steering(error: BaseException) -> list[BaseException]:
    """Those whose `non_retryable` and `retry_after` count: the exception, or those in a group.

    Only ours mean what we mean by these names: exceptions of libraries have such too.
    """
    left = [error]
    found: list[BaseException] = []
    for _ in range(_MAX_STEPS):
        if not left:
            break
        one = left.pop()
        if is_a(one, BaseExceptionGroup):
            left += _members(one)
        elif is_a(one, ApplicationError):
            found.append(one)
    return found


def wrong_in(error: BaseException) -> BaseException | None:
    """The first that says that the code is wrong: the exception itself, or one in its group."""
    left = [error]
    for _ in range(_MAX_STEPS):
        if not left:
            break
        one = left.pop()
        if is_a(one, BaseExceptionGroup):
            left += reversed(_members(one))
        elif issubclass(type(one), _OF_WRONG_CODE):
            return one
    return None


def attribute(error: BaseException, name: str, make: Callable[[Any], Any] | None = None) -> Any:
    """What an exception has under that name, as `make` makes it; `None` if that raises.

    It is the user's, and may be a property: how an attempt ended must be told all the same.
    """
    try:
        found = getattr(error, name, None)
        return found if make is None else make(found)
    except BaseException:
        return None


def is_a(value: Any, kind: type[T]) -> TypeGuard[T]:
    """Whether it is of that class: `isinstance` would ask the object itself, which may raise."""
    return issubclass(type(value), kind)


def own_attribute(error: BaseException, name: str) -> Any:
    """What Python itself keeps with an exception under that name, whatever its class says of it."""
    return vars(BaseException)[name].__get__(error)


def _describe(error: BaseException) -> Failure:
    message = _text(error)
    if is_a(error, BaseExceptionGroup):
        first = _first_leaf(error)
        message = cut(f"{message}: {_type_name(first)}: {_text(first)}", _MAX_MESSAGE)
    is_of_activity = is_a(error, ActivityError)
    given = attribute(error, "type") if is_a(error, ApplicationError) else None
    activity = attribute(error, "activity") if is_of_activity else None
    attempts = attribute(error, "attempts") if is_of_activity else None
    return Failure(
        type=cut(given, _MAX_NAME) if is_a(given, str) else _type_name(error),
        message=message,
        traceback=cut(_user_traceback(error), _MAX_TRACEBACK),
        non_retryable=any(attribute(one, "non_retryable", bool) for one in steering(error)),
        activity=cut(activity, _MAX_NAME) if is_a(activity, str) else None,
        attempts=attempts if type(attempts) is int and 0 <= attempts < 2**31 else None,
        seqs=tuple(_numbers(error)),
    )


def _numbers(error: BaseException) -> Iterator[int]:
    """Those of the activities whose failures it is, or has in its group."""
    left = [error]
    for _ in range(_MAX_EXCEPTIONS):
        if not left:
            break
        one = left.pop()
        if is_a(one, BaseExceptionGroup):
            left += _members(one)
        elif is_a(one, ActivityError) and type(seq := attribute(one, "seq")) is int:
            yield seq


# -- texts ---------------------------------------------------------------------------------------


def _type_name(error: BaseException) -> str:
    name: str = type.__dict__["__name__"].__get__(type(error))
    return cut(name, _MAX_NAME)


def _text(error: BaseException, limit: int = _MAX_MESSAGE) -> str:
    try:
        return cut(str(error), limit)
    except BaseException as failed:
        return f"its text cannot be made: {_type_name(failed)}"


def cut(text: str, limit: int) -> str:
    """The text as JSON can hold it: of bounded size, with halves of surrogate pairs escaped.

    The methods are those of `str`: the text's own may be the user's.
    """
    length = str.__len__(text)
    kept = min(length, limit)
    while True:
        shown = text
        if kept < length:
            half = kept // 2
            start = str.__getitem__(text, slice(None, half))
            end = str.__getitem__(text, slice(length - half, None))
            shown = f"{start} [... {length - 2 * half:,} characters left out ...] {end}"
        shown = str.encode(shown, "utf-8", "backslashreplace").decode()
        size = len(json.dumps(shown, ensure_ascii=False).encode())
        if size <= limit + _LONGEST_MARK:
            return shown
        # Some characters take several bytes, and those at the ends may be such.
        kept = kept * limit // size


# -- chains and groups ---------------------------------------------------------------------------


def _members(error: BaseException) -> tuple[BaseException, ...]:
    members: tuple[BaseException, ...] = vars(BaseExceptionGroup)["exceptions"].__get__(error)
    return members


def _first_leaf(error: BaseException) -> BaseException:
    for _ in range(_MAX_STEPS):
        if not is_a(error, BaseExceptionGroup):
            break
        error = _members(error)[0]
    return error


def _came_from(error: BaseException) -> tuple[BaseException | None, str]:
    """What the exception was raised from, or while handling; and which of them it was."""
    cause: BaseException | None = own_attribute(error, "__cause__")
    if cause is not None:
        return cause, _CAUSED
    if own_attribute(error, "__suppress_context__"):
        return None, ""
    return own_attribute(error, "__context__"), _HANDLING


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """The exception and those that it came from, each with how it came from the next."""
    chain: list[tuple[BaseException, str]] = []
    seen = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen and len(chain) < _MAX_STEPS:
        seen.add(id(following))
        origin, joint = _came_from(following)
        chain.append((following, joint))
        following = origin
    return chain


class _Budget:
    """How many exceptions may still be described."""

    def __init__(self) -> None:
        self.left = _MAX_EXCEPTIONS

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def _user_traceback(error: BaseException) -> str:
    text = "\n".join(_chain_lines(error, 0, _Budget()))
    cause = attribute(error, "cause") if is_a(error, ActivityError) else None
    inner = attribute(cause, "traceback") if is_a(cause, ApplicationError) else None
    if is_a(inner, str) and inner:
        inner = cut(inner, _MAX_TRACEBACK // 2)
        text = f"{inner}\n\nThe activity's exception above was raised here:\n\n{text}"
    return text


def _chain_lines(error: BaseException, depth: int, budget: _Budget) -> Iterator[str]:
    """The lines of a traceback: what was raised first comes first, as Python writes it."""
    chain = _chain(error)
    left_out = len(chain) - 2 * _CHAIN_ENDS
    for index in range(len(chain) - 1, -1, -1):
        if left_out > 0 and _CHAIN_ENDS <= index < len(chain) - _CHAIN_ENDS:
            if index == _CHAIN_ENDS:
                yield f"[... {left_out:,} exceptions left out ...]\n"
            continue
        yield from _exception_lines(chain[index][0], depth, budget)
        if index:
            yield f"\n{chain[index - 1][1]}\n"


def _exception_lines(error: BaseException, depth: int, budget: _Budget) -> Iterator[str]:
    if not budget.take():
        return
    is_group = is_a(error, BaseExceptionGroup)
    frames = _frames(own_attribute(error, "__traceback__"))
    if frames:
        yield f"{'Exception Group ' if is_group else ''}Traceback (most recent call last):"
        yield frames
    text = _text(error, _MAX_IN_TRACEBACK)
    yield f"{_qualified_name(error)}: {text}" if text else _qualified_name(error)
    yield from _notes(error)
    if is_group:
        yield from _member_lines(error, depth, budget)


def _member_lines(error: BaseException, depth: int, budget: _Budget) -> Iterator[str]:
    members = _members(error)
    if depth >= _MAX_DEPTH:
        yield f"  [... {len(members):,} exceptions in it left out ...]"
        return
    for number, member in enumerate(members[:_MAX_MEMBERS], 1):
        yield f"  +-------- {number} of {len(members)} --------"
        block = "\n".join(_chain_lines(member, depth + 1, budget))
        yield "\n".join(f"  | {line}" for line in block.splitlines())
    if len(members) > _MAX_MEMBERS:
        yield f"  [... {len(members) - _MAX_MEMBERS:,} more left out ...]"


def _qualified_name(error: BaseException) -> str:
    name = _type_name(error)
    try:
        qualified = type.__dict__["__qualname__"].__get__(type(error))
        module = type.__dict__["__module__"].__get__(type(error))
    except BaseException:
        return name
    if not is_a(module, str) or module in ("builtins", "__main__"):
        return cut(qualified, _MAX_NAME)
    return cut(f"{module}.{qualified}", _MAX_NAME)


def _notes(error: BaseException) -> list[str]:
    """What `add_note` has added."""
    notes = attribute(error, "__notes__")
    if type(notes) is not list:
        return []
    return [cut(note, _MAX_IN_TRACEBACK) for note in notes[:_MAX_MEMBERS] if is_a(note, str)]


# -- frames --------------------------------------------------------------------------------------


def _frames(link: TracebackType | None) -> str:
    """The user's frames as Python shows them; of a very long traceback its two ends."""
    kept = []
    for _ in range(_MAX_STEPS):
        if link is None:
            break
        if not _is_machinery(link.tb_frame):
            kept.append(link)
        link = link.tb_next
    left_out = len(kept) - 2 * _FRAME_ENDS
    if left_out <= 0:
        return _shown(kept)
    middle = f"  [... {left_out:,} calls left out ...]"
    return "\n".join((_shown(kept[:_FRAME_ENDS]), middle, _shown(kept[-_FRAME_ENDS:])))


def _shown(links: list[TracebackType]) -> str:
    summaries = [_summary(link) for link in links]
    return "".join(traceback.StackSummary.from_list(summaries).format()).rstrip("\n")


def _summary(link: TracebackType) -> traceback.FrameSummary:
    code = link.tb_frame.f_code
    # An instruction takes two bytes.
    positions = itertools.islice(code.co_positions(), link.tb_lasti // 2, None)
    _, end_line, column, end_column = next(positions, (None,) * 4)
    return traceback.FrameSummary(
        code.co_filename,
        link.tb_lineno,
        code.co_name,
        lookup_line=False,
        end_lineno=end_line,
        colno=column,
        end_colno=end_column,
    )


_MACHINERY = tuple(
    module.__file__.rpartition("/")[0] + "/"
    for module in (asyncio, sys.modules["belugawf"])
    if module.__file__
)


def _is_machinery(frame: FrameType) -> bool:
    # What calls an activity has the activity's file name.
    return frame.f_code.co_filename.startswith(_MACHINERY) or frame.f_globals is vars(activity)
