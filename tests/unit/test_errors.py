"""An error is one sentence: what happened, where, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared_schema import errors
from shared_schema.errors import (
    Conflict,
    DumbwaiterError,
    FileBusy,
    FileDamaged,
    FileTrouble,
    InvalidValue,
    NewerSchema,
)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DumbwaiterError("it broke"), "it broke"),
        (DumbwaiterError("it broke", where="ses_1"), "it broke (ses_1)"),
        (DumbwaiterError("it broke", hint="mend it"), "it broke: mend it"),
        (FileTrouble("it broke", where=Path("/a/b"), hint="mend it"), "it broke (/a/b): mend it"),
    ],
)
def test_the_sentence_has_what_is_known(error: DumbwaiterError, sentence: str) -> None:
    assert str(error) == sentence


def test_a_chat_is_told_what_to_do_where_that_can_be_done_in_a_chat() -> None:
    error = InvalidValue("'x' is not a duration", hint="write it as 30m")
    assert error.told == "'x' is not a duration: write it as 30m."
    for hint in ("`dumbwaiter schedule list` shows all", "say `--agent-group`", None):
        assert InvalidValue("there is none", hint=hint).told == "There is none."


def test_the_parts_can_be_read_one_by_one() -> None:
    error = Conflict("it is there", where=Path("/a/b"), hint="take another")
    assert (error.what, error.where, error.hint) == ("it is there", "/a/b", "take another")


@pytest.mark.parametrize("kind", [NewerSchema, FileBusy, FileDamaged])
def test_whatever_is_wrong_with_a_file_is_file_trouble(kind: type[DumbwaiterError]) -> None:
    assert issubclass(kind, FileTrouble)


def test_every_error_of_the_module_is_in_the_tree_at_its_top() -> None:
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert kinds == {name for name in kinds if f" {name} " in (errors.__doc__ or "")}
    assert all(issubclass(getattr(errors, name), DumbwaiterError) for name in kinds)
