"""Checking JSON data against the schema of a type, where the type itself is not at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from belugawf.model.codec._forms import form_called
from belugawf.model.codec._path import (
    Path,
    first_fit,
    mismatch,
    quoted_key,
    type_word,
    unfit,
    unknown_key,
)
from belugawf.model.codec._shapes import int_key, to_float
from belugawf.model.errors import PayloadTypeError

# JSON Schema's words, the Python types of their data, and the words of `describe`.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "null": ((type(None),), "None"),
    "boolean": ((bool,), "bool"),
    "integer": ((int,), "int"),
    "number": ((float, int), "float"),
    "string": ((str,), "str"),
    "array": ((list,), "list"),
    "object": ((dict,), "dict"),
}


def check(data: Any, schema: Mapping[str, Any], *, path: str = "payload") -> None:
    """Check JSON data as strictly as `convert` does with the type that `schema` was made of.

    Raises `PayloadTypeError`. Keywords that `schema` never writes are not looked at.
    """
    try:
        _check(data, schema, path)
    except RecursionError:
        raise PayloadTypeError(path, "less nesting", "data that is nested too deep") from None


def _check(data: Any, schema: Mapping[str, Any], path: Path) -> None:
    if "anyOf" in schema:
        _check_any_of(data, schema, path)
    if "const" in schema:
        _check_choice(data, [schema["const"]], path)
    if "enum" in schema:
        _check_choice(data, schema["enum"], path)
    if "type" not in schema:
        return
    kinds, word = _TYPES[schema["type"]]
    if type(data) not in kinds:
        form = form_called(schema.get("format", ""))
        raise mismatch(path, _expected(schema), data, kinds[0], form.example if form else "")
    if word == "str":
        _check_format(data, schema, path)
    elif word == "list":
        _check_items(data, schema, path)
    elif word == "dict":
        _check_properties(data, schema, path)
    elif word == "float":
        to_float(data, path)


def _check_any_of(data: Any, schema: Mapping[str, Any], path: Path) -> None:
    members = schema["anyOf"]
    first_fit(members, lambda m: _check(data, m, path), path, lambda: _expected(schema), data)


def _check_choice(data: Any, choices: list[Any], path: Path) -> None:
    # As texts, because True == 1 and 1 == 1.0 in Python.
    text = json.dumps(data, sort_keys=True)
    texts = [json.dumps(choice, sort_keys=True) for choice in choices]
    if text not in texts:
        found = "another text" if type(data) is str else type_word(data)
        raise unfit(path, _expected({"enum": choices}), found)


def _check_format(data: str, schema: Mapping[str, Any], path: Path) -> None:
    name = schema.get("format")
    if name is None:
        return
    if name == "integer":  # of a key: see `Basic.key_schema`
        int_key(data, path)
        return
    form = form_called(name)
    try:
        if form is not None:
            form.read(data)
    except ValueError:
        raise unfit(path, _expected(schema), "another text") from None


def _check_items(data: list[Any], schema: Mapping[str, Any], path: Path) -> None:
    places = schema.get("prefixItems", ())
    rest = schema.get("items")
    too_many = rest is False and len(data) > len(places)
    if too_many or len(data) < schema.get("minItems", 0):
        raise unfit(path, _expected(schema), f"a list of {len(data)} items")
    for index, item in enumerate(data):
        where = places[index] if index < len(places) else rest
        if where:
            _check(item, where, (path, index))


def _check_properties(data: dict[str, Any], schema: Mapping[str, Any], path: Path) -> None:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    names = schema.get("propertyNames")
    for key, item in data.items():
        where = known.get(key, others)
        if where is False:
            raise unknown_key(path, _expected(schema), key, known)
        if names:
            _check(key, names, (path, key))
        if where:
            _check(item, where, (path, key))
    for name in schema.get("required", ()):
        if name not in data:
            raise unfit(path, _expected(schema), f"an object without {quoted_key(name)}")


def _expected(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_expected(member) for member in schema["anyOf"]))
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if "enum" in schema:
        return " | ".join(json.dumps(choice, ensure_ascii=False) for choice in schema["enum"])
    if "title" in schema:
        return str(schema["title"])
    form = form_called(schema.get("format", ""))
    return form.described(form.type) if form else _TYPES[schema["type"]][1]
