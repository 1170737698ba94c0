"""The schema of OCSF 1.7.0 as its project publishes it, walked beside a document: what of it breaks the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

_INTEGERS = {"integer_t", "long_t", "timestamp_t", "port_t"}
_FREE = {"object", "json_t"}  # anything goes there
_OF_THE_CLASS = {"category_uid", "class_uid"}  # whose values the schema lists elsewhere


def problems(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a Detection Finding; nothing if it is as the schema wants."""
    return list(_of(document, _attributes("events", "detection_finding"), "finding"))


@cache
def _schema() -> Mapping[str, Any]:
    text = files("ocsf").joinpath("schemas", "v1_7_0.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@cache
def _attributes(kind: str, name: str) -> Mapping[str, Any]:
    """Attributes of an event class or object, with those of what it extends."""
    made = _schema()[kind][name]
    parent = made.get("extends")
    inherited = _attributes(kind, parent) if parent in _schema()[kind] and parent != name else {}
    own = {key: value for key, value in made["attributes"].items() if isinstance(value, dict)}
    return {**inherited, **{key: {**inherited.get(key, {}), **value} for key, value in own.items()}}


def _of(value: Mapping[str, Any], attributes: Mapping[str, Any], place: str) -> Iterator[str]:
    for name, attribute in attributes.items():
        if attribute.get("requirement") == "required" and name not in value:
            yield f"{place}.{name} is required"
    for name, inner in value.items():
        if name not in attributes:
            yield f"{place}.{name} is no attribute"
        else:
            described = _schema()["dictionary"]["attributes"][name]
            yield from _typed(inner, described, f"{place}.{name}")
            known = attributes[name].get("enum", described.get("enum"))
            if known and name not in _OF_THE_CLASS and str(inner) not in known:
                yield f"{place}.{name} is {inner}, none of its values"


def _typed(value: Any, described: Mapping[str, Any], place: str) -> Iterator[str]:
    if described.get("is_array"):
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for number, item in enumerate(value):
            yield from _one(item, described["type"], f"{place}[{number}]")
    else:
        yield from _one(value, described["type"], place)


def _one(value: Any, type: str, place: str) -> Iterator[str]:
    if type in _FREE:
        return
    if type in _schema()["objects"]:
        yield from _of(value, _attributes("objects", type), place)
        yield from _constrained(value, type, place)
        return
    expected = int if type in _INTEGERS else bool if type == "boolean_t" else str
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        yield f"{place} is no {type}"


def _constrained(value: Mapping[str, Any], type: str, place: str) -> Iterator[str]:
    constraints = _schema()["objects"][type].get("constraints")
    least_one = constraints.get("at_least_one", []) if constraints else []
    if least_one and not set(least_one) & value.keys():
        yield f"{place} has none of {least_one}"
