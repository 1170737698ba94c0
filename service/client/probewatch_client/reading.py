"""From JSON to the frozen dataclasses that declare it. Stands after `errors`.

Fields that are not declared are passed over, since the service may add some; what is missing or of another type is an
error that names its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from probewatch_client.errors import BadAnswerError

T = TypeVar("T")


def read(shape: type[T], value: object, place: str = "the answer") -> T:
    """The value as its shape says: a dataclass, tuple[X, ...], Mapping[str, X], X | None, datetime or a plain type.

    Raises:
        BadAnswerError: it is something else.
    """
    found: Any = _read(shape, value, place)
    return found  # type: ignore[no-any-return]


def _read(shape: Any, value: Any, place: str) -> Any:
    if dataclasses.is_dataclass(shape):
        return _record(shape, value, place)
    origin, parts = get_origin(shape), get_args(shape)
    if origin is UnionType:
        (inner,) = (part for part in parts if part is not NoneType)
        return None if value is None else _read(inner, value, place)
    if origin is tuple:
        return tuple(_read(parts[0], one, f"{place}[{i}]") for i, one in enumerate(_of(list, value, place)))
    if origin is not None:
        return {name: _read(parts[1], one, f"{place}.{name}") for name, one in _of(dict, value, place).items()}
    return _moment(value, place) if shape is datetime else _plain(shape, value, place)


def _record(shape: Any, value: object, place: str) -> Any:
    fields: Mapping[str, object] = _of(dict, value, place)
    hints = get_type_hints(shape)
    names = [field.name for field in dataclasses.fields(shape)]
    for name in names:
        if name not in fields:
            raise BadAnswerError(f"{place} has no {name}: is the service of the same version as this client?")
    return shape(**{name: _read(hints[name], fields[name], f"{place}.{name}") for name in names})


def _plain(shape: type, value: object, place: str) -> object:
    if shape is float and type(value) is int:
        return float(value)
    return _of(shape, value, place)


def _of(shape: type[T], value: object, place: str) -> T:
    if type(value) is not shape:
        raise BadAnswerError(
            f"{place} is {type(value).__name__}, expected {shape.__name__}: is the service of the same version as this "
            "client?"
        )
    return value


def _moment(value: object, place: str) -> datetime:
    try:
        return datetime.fromisoformat(_of(str, value, place))
    except ValueError:
        raise BadAnswerError(f"{place} is no time, expected ISO 8601: is it the service that answers?") from None
