"""Pydantic models. Imported with the first one: most programs have none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from belugawf.model.codec._path import Path, type_word, unfit
from belugawf.model.codec._shapes import (
    Outer,
    Shape,
    describe_object,
    is_equal,
    refused_by,
)
from belugawf.model.errors import PayloadTypeError


class ModelShape(Shape):
    """A pydantic model, which validates itself; strictly, by the rules for JSON."""

    def __init__(self, kind: Any, shape_of: Callable[[Any], Shape]) -> None:
        self.kind = kind
        self.shape_of = shape_of

    def convert(self, data: Any, path: Path) -> Any:
        text = json.dumps(data)
        try:
            return self.kind.model_validate_json(text, strict=True)
        except ValueError as error:
            if not hasattr(error, "errors"):
                raise refused_by(self, self.kind, error, path) from error
            raise self._translated(error, data, path) from None

    def holds(self, value: Any) -> bool:
        return isinstance(value, self.kind)

    def _translated(self, error: Any, data: Any, path: Path) -> PayloadTypeError:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        problem = problems[0]
        where, found = path, data
        for step in problem["loc"]:
            where = (where, step)
            found = _step_into(found, step)
        return unfit(
            where,
            self._expected(problem),
            "nothing" if problem["type"] == "missing" else type_word(found),
            hint=f"there are {len(problems) - 1} more problems" if len(problems) > 1 else None,
        )

    def _expected(self, problem: Any) -> str:
        """Only messages that are known to hold no value are passed on."""
        kind, message = problem["type"], problem["msg"]
        if kind == "missing":
            return "a value"
        if kind == "extra_forbidden":
            return "no such key"
        if kind.endswith("_type") or kind in _SAFE_PYDANTIC_ERRORS:
            return str(message.removeprefix("Input should be "))
        return f"what {self.kind.__name__} accepts ({kind})"

    def describe(self, outer: Outer) -> str:
        fields = (
            (field.alias or name, field.is_required(), self.shape_of(field.annotation))
            for name, field in self.kind.model_fields.items()
        )
        return describe_object(self.kind, fields, outer)


def differs_in(value: Any, data: Any, path: Path) -> Path | None:
    """Where a model is not what it reads from its own data; `None` if it is equal to that."""
    kind = type(value)
    try:
        back = kind.model_validate_json(json.dumps(data), strict=True)
        if back == value:
            return None
    except RecursionError:
        raise
    except Exception as error:
        # A model's own code raises what it likes.
        problems = error.errors(include_url=False) if hasattr(error, "errors") else []
        for step in problems[0]["loc"] if problems else ():
            path = (path, step)
        return path
    for name in kind.model_fields:
        if not is_equal(getattr(value, name, None), getattr(back, name, None)):
            return (path, name)
    return path


_SAFE_PYDANTIC_ERRORS = frozenset(
    {
        *("literal_error", "enum", "greater_than", "greater_than_equal", "less_than"),
        *("less_than_equal", "multiple_of", "finite_number", "string_too_short"),
        *("string_too_long", "too_short", "too_long", "string_pattern_mismatch"),
    }
)


def _step_into(data: Any, step: str | int) -> Any:
    """The data one step further in; unions add steps of their own, which lead nowhere."""
    try:
        return data[step]
    except (KeyError, IndexError, TypeError):
        return data
