"""What is made with the product's `dataclass` is what the standard library would make, later."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from shared_schema.dataclass import dataclass
from shared_schema.rows import Address
from tests.unit.test_structure import MODULES, ROOT, imported

Make = Callable[..., Any]


def _classes(dataclass: Make) -> dict[str, Any]:
    """Classes of each kind, made with one of the two."""

    @dataclass(frozen=True, slots=True)
    class Frozen:
        name: str
        numbers: list[int] = dataclasses.field(default_factory=list, repr=False)
        note: str | None = dataclasses.field(default=None, compare=False)
        made: int = dataclasses.field(init=False, default=7)
        kind: ClassVar[str] = "none of its fields"

        @property
        def length(self) -> int:
            return len(self.name)

    @dataclass(slots=True)
    class Changing:
        """With a word of its own."""

        first: int
        second: int = 2

        def __post_init__(self) -> None:
            self.second += self.first

    @dataclass(frozen=True)
    class Without:
        """Without slots."""

        value: int = 1

    @dataclass(frozen=True, slots=True, eq=False)
    class ByIdentity:
        value: int = 1

    @dataclass(frozen=True, slots=True)
    class Below(Frozen):
        more: int = 3

    @dataclass(frozen=True, slots=True)
    class SaysItself:
        value: int = 1

        def __repr__(self) -> str:
            return "itself"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, SaysItself)

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    return {key: value for key, value in locals().items() if isinstance(value, type)}


OURS, THEIRS = _classes(dataclass), _classes(dataclasses.dataclass)
KINDS = sorted(THEIRS)
MADE_FROM: dict[str, list[tuple[Any, ...]]] = {
    "Frozen": [("a",), ("a", [1]), ("a", [1], "note"), ("b",)],
    "Changing": [(1,), (1, 3), (2,)],
    "Below": [("a",), ("a", [], None, 4)],
}


def _outcome(act: Callable[[], object]) -> object:
    """What a call returns, or its error in words."""
    try:
        return act()
    except Exception as error:
        return type(error), str(error)


def _made(classes: dict[str, Any], kind: str) -> list[Any]:
    return [classes[kind](*arguments) for arguments in MADE_FROM.get(kind, [()])]


def _same(kind: str, act: Callable[[type, list[Any]], object]) -> None:
    def outcome(classes: dict[str, Any]) -> object:
        return _outcome(lambda: act(classes[kind], _made(classes, kind)))

    assert outcome(_classes(dataclass)) == outcome(THEIRS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda cls, made: [repr(each) for each in made], id="repr"),
        pytest.param(lambda cls, made: [[one == other for one in made] for other in made], id="equal"),
        pytest.param(lambda cls, made: [one != object() for one in made], id="not equal to another kind"),
        pytest.param(lambda cls, made: [hash(one) == hash(copy.copy(one)) for one in made], id="hash"),
        pytest.param(lambda cls, made: [dataclasses.asdict(each) for each in made], id="asdict"),
        pytest.param(lambda cls, made: repr([dataclasses.replace(each) for each in made]), id="replace"),
        pytest.param(lambda cls, made: repr([copy.deepcopy(each) for each in made]), id="copies"),
        pytest.param(lambda cls, made: [each.name for each in dataclasses.fields(cls)], id="fields"),
        pytest.param(lambda cls, made: [getattr(cls, "__slots__", None), cls.__match_args__], id="slots, match"),
        pytest.param(lambda cls, made: cls(*range(9)), id="too much"),
        pytest.param(lambda cls, made: cls(unknown=1), id="what it has not"),
        pytest.param(lambda cls, made: setattr(made[0], cls.__match_args__[0], 1), id="a field is set"),
        pytest.param(lambda cls, made: delattr(made[0], cls.__match_args__[0]), id="a field is deleted"),
        pytest.param(lambda cls, made: [cls.__eq__ is object.__eq__, cls.__hash__ is None], id="what it has"),
    ],
)
def test_it_behaves_as_that_of_the_standard_library(kind: str, act: Callable[[type, list[Any]], object]) -> None:
    _same(kind, act)


def test_a_class_that_needs_values_says_which_are_missing() -> None:
    _same("Frozen", lambda cls, made: cls())


def test_what_is_no_field_is_refused_in_the_same_words_with_slots_too() -> None:
    """The standard library says there that `super()` was used wrongly."""
    one = OURS["Frozen"]("a")
    for act in (lambda: setattr(one, "unknown", 1), lambda: delattr(one, "unknown")):
        with pytest.raises(dataclasses.FrozenInstanceError, match="field 'unknown'"):
            act()


def test_each_first_use_works_by_itself() -> None:
    """Made without `__init__`, as a copy is: what is called first is the method under test."""
    for act in (repr, hash, lambda each: each == each):
        cls = _classes(dataclass)["Without"]
        act(object.__new__(cls))


def test_what_is_made_can_be_pickled() -> None:
    address = Address("cli", "here", None)
    assert pickle.loads(pickle.dumps(address)) == address


def test_a_class_below_that_is_no_dataclass_keeps_what_is_its_own() -> None:
    for classes in (OURS, THEIRS):

        class Own(classes["Without"]):  # type: ignore[misc]
            pass

        own = Own(3)
        own.note = "set"
        with pytest.raises(dataclasses.FrozenInstanceError):
            own.value = 4
        assert (own.value, own.note) == (3, "set")


def test_many_threads_may_be_the_first_to_use_it() -> None:
    for _ in range(20):
        cls = _classes(dataclass)["Frozen"]
        start, made = threading.Barrier(8), []

        def use(cls: type = cls, start: threading.Barrier = start, made: list[Any] = made) -> None:
            start.wait()
            made.append(cls("a", [1]))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 8
        assert all(each == made[0] for each in made)


def test_no_method_is_written_before_it_is_used() -> None:
    """In a process of its own, which has loaded the rows and made none."""
    look = """
import dataclasses, sys
from shared_schema import rows
kinds = [each for each in vars(rows).values() if dataclasses.is_dataclass(each) and each.__module__ == rows.__name__]
print(len(kinds), sum(each.__init__.__code__.co_filename == "<string>" for each in kinds))
rows.Address("cli", "here", None)
print(rows.Address.__init__.__code__.co_filename)
"""
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    count, written, after = done.stdout.split()
    assert int(count) > 3
    assert (written, after) == ("0", "<string>")


def test_the_product_makes_its_dataclasses_with_it() -> None:
    others = [
        module
        for module in MODULES
        if module not in ("shared_schema/dataclass.py", "host/operations/mount_observer.py")
        and "dataclasses.dataclass" in imported(module)
    ]
    assert others == []
