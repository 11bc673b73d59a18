"""The `dataclass` of the standard library, whose methods are written when the first of them is used.

To write and compile the code of the methods is most of what a dataclass costs while it is imported: with some three
hundred of them a fifth of the start of a host that uses few. So a class is put in place with its fields alone.
Where a method belongs stands one that has the standard library write it, and goes on there. What a caller sees is the
same: `fields`, `replace`, `asdict`, `match`, errors, comparisons.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

_WRITTEN_WITH = {"__init__": "init", "__repr__": "repr", "__eq__": "eq", "__hash__": "eq"}
"""The methods that wait, and the option of the standard library that writes each."""


def _dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Callable[[type[T]], type[T]]:
    """As `dataclasses.dataclass`, with the options of it that are used here."""

    def put_in_place(cls: type[T]) -> type[T]:
        own = {name for name, value in vars(cls).items() if (name, value) != ("__hash__", None)}  # stays as it is
        cls.__doc__ = cls.__doc__ or cls.__name__  # else it is the signature
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
        for name, option in _WRITTEN_WITH.items():
            if name not in own and (option != "eq" or eq) and (name != "__hash__" or frozen):
                setattr(made, name, _waiting(made, name, frozen=frozen, slots=slots))
        if eq and not frozen and "__hash__" not in own:
            made.__hash__ = None  # type: ignore[assignment]
        if frozen:
            _freeze(made, slots)
        return made

    return put_in_place


def _waiting(cls: type, name: str, **kind: bool) -> Callable[..., Any]:
    """A method that is written, and takes the place of this one, when it is called."""

    def method(self: Any, /, *arguments: Any, **named: Any) -> Any:
        setattr(cls, name, _written(cls, name, **kind))  # by two threads at once: twice the same
        return getattr(cls, name)(self, *arguments, **named)

    method.__name__, method.__qualname__ = name, f"{cls.__qualname__}.{name}"
    return method


def _written(cls: type, name: str, **kind: bool) -> Any:
    """The method as the standard library writes it, for a class that has these fields and nothing else."""
    alike: dict[str, Any] = {field.name: field for field in fields(cls)}
    alike |= {"__annotations__": {field.name: field.type for field in fields(cls)}, "__doc__": cls.__doc__}
    alike |= {key: getattr(cls, key) for key in ("__module__", "__qualname__", "__post_init__") if hasattr(cls, key)}
    kind |= {option: option == _WRITTEN_WITH[name] for option in _WRITTEN_WITH.values()}
    return vars(dataclasses.dataclass(**kind)(type(cls.__name__, (), alike)))[name]


def _freeze(cls: type[Any], slots: bool) -> None:
    names = {field.name for field in fields(cls)}

    def set_(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)  # of a class below it, which is no dataclass

    def delete(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    methods: dict[str, Any] = {"__setattr__": set_, "__delattr__": delete}
    if slots:  # what copies it would set attributes
        methods |= {"__getstate__": _state, "__setstate__": _set_state}
    for name, method in methods.items():
        setattr(cls, name, method)


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    dataclass = _dataclass
