"""What an operation takes, read from its signature: its parameters as JSON Schema, and a query string as parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from multidict import MultiMapping
from pydantic import TypeAdapter, ValidationError

from host.validation import misfit_of
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue

_LARGEST = 2**63 - 1
_OF_THE_HOST: Mapping[str, frozenset[str]] = {
    "message.inject": frozenset({"files"}),
    "terminal.send": frozenset({"files"}),
    "conversation.send": frozenset({"files"}),
}
"""Parameters that are paths of the host's own files: who calls over HTTP names none."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation. `schema` is JSON Schema."""

    name: str
    type: Any
    is_required: bool
    schema: dict[str, Any]

    @property
    def may_be_none(self) -> bool:
        """Whether it may be given as null."""
        return NoneType in get_args(self.type)

    @property
    def is_list(self) -> bool:
        """Whether it is a list of values."""
        return any(get_origin(each) is list for each in (self.type, *get_args(self.type)))


@cache
def parameters_of(name: str, operation: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters of an operation or stream that a program may give."""
    types = get_type_hints(operation)
    hidden = _OF_THE_HOST.get(name, frozenset())
    return tuple(
        Parameter(each.name, types[each.name], each.default is each.empty, _schema(types[each.name], each.default))
        for each in list(inspect.signature(operation).parameters.values())[1:]
        if each.name not in hidden
    )


def sentence_of(operation: Callable[..., Any]) -> tuple[str, str]:
    """The first paragraph of what is said of an operation, and all of it."""
    text = inspect.cleandoc(operation.__doc__ or "")
    return text.partition("\n\n")[0].replace("\n", " "), text


def require_known(parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> None:
    """Raises `InvalidValue` for a parameter that there is not, or that is missing."""
    known = {each.name for each in parameters}
    for name in given:
        if name not in known:
            hint = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise InvalidValue(f"there is no parameter '{name[:60]}'", hint=hint)
    for each in parameters:
        if each.is_required and each.name not in given:
            raise InvalidValue(f"the parameter '{each.name}' is missing")


def from_query(parameters: tuple[Parameter, ...], query: MultiMapping[str]) -> dict[str, Any]:
    """The parameters that a query string gives. Raises `InvalidValue`."""
    require_known(parameters, query)
    given: dict[str, Any] = {}
    for each in parameters:
        values = query.getall(each.name, [])
        if not values:
            continue
        if len(values) > 1 and not each.is_list:
            raise InvalidValue(f"the parameter '{each.name}' is given twice")
        try:
            given[each.name] = _adapter(each.type).validate_strings(values if each.is_list else values[0])
        except ValidationError as error:
            message = misfit_of(error.errors()[0])
            raise InvalidValue(f"the parameter '{each.name}' is not valid: {message}") from error
    return given


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_without_none(kind))


def _without_none(kind: Any) -> Any:
    """A type without None, which no query string can say."""
    if get_origin(kind) in (Union, UnionType):
        (found,) = [each for each in get_args(kind) if each is not NoneType]
        return found
    return kind


def _schema(kind: Any, default: Any) -> dict[str, Any]:
    schema: dict[str, Any] = _adapter(kind).json_schema()
    if schema.get("type") in ("integer", "number"):
        schema |= {"minimum": -_LARGEST, "maximum": _LARGEST}
    if default is not inspect.Parameter.empty and default is not None:
        schema["default"] = default
    return schema
