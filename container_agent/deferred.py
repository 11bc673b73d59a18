"""TLS, which asyncio imports and most agents never use: a third of what the start of an agent takes in memory.

The modules are put in place unloaded, and load when any code uses something in them for the first time.
`importlib.util.LazyLoader` would not do: with it the import statement itself loads them.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

_DEFERRED = ("ssl", "asyncio.sslproto")  # asyncio's own module of TLS would load the other one
_LOADING = RLock()


class _Unloaded(ModuleType):
    """A module whose code runs when the first of its names is asked for."""

    def __getattr__(self, name: str) -> Any:  # called for what the module does not have yet
        if name.startswith("__"):  # the import system and tools ask for those, and use nothing
            raise AttributeError(name)
        with _LOADING:  # a second thread waits until all names are there
            if type(self) is _Unloaded and not self.__dict__.get("_begun"):
                self.__dict__["_begun"] = True  # the module may import itself while it loads
                assert self.__spec__ is not None
                assert self.__spec__.loader is not None
                self.__spec__.loader.exec_module(self)
                self.__class__ = ModuleType  # type: ignore[assignment]
        return ModuleType.__getattribute__(self, name)


def defer() -> None:
    """Put the modules in place, before the first `import asyncio`. One that is loaded already stays as it is."""
    for name in _DEFERRED:
        if name in sys.modules:
            continue
        package = name.rpartition(".")[0]
        found = PathFinder.find_spec(package) if package else None  # not imported for that
        spec = PathFinder.find_spec(name, None if found is None else found.submodule_search_locations)
        if spec is not None and spec.loader is not None:  # there are Pythons without TLS
            module = module_from_spec(spec)
            unloaded = _Unloaded(name)
            unloaded.__dict__.update(module.__dict__)
            sys.modules[name] = unloaded


def complete() -> None:
    """Give packages the names of their deferred modules, as an import would. Call it when the packages are loaded."""
    for name in _DEFERRED:
        package, _, last = name.rpartition(".")
        if package and name in sys.modules:
            setattr(sys.modules[package], last, sys.modules[name])
