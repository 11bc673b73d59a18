"""An error of the system comes with what to type about it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.system_errors import how_to_mend, words_of

PLACE = Path("/srv/my data/central.db")


def caused(number: int, hint: str | None = None) -> DumbwaiterError:
    """As the code raises it."""
    try:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise FileTrouble(f"the file cannot be written: {error.strerror}", where=PLACE, hint=hint) from error
    except FileTrouble as trouble:
        return trouble


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.ENOSPC, "`df -h '/srv/my data'`"),
        (errno.EACCES, "`ls -ld '/srv/my data' '/srv/my data/central.db'`"),
        (errno.EROFS, "`findmnt -T '/srv/my data'`"),
        (errno.ENOENT, "`ls '/srv/my data'`"),
        (errno.ENOTDIR, "`ls -ld '/srv/my data/central.db'`"),
        (errno.EIO, "`sudo dmesg | tail`"),
        (errno.EMFILE, "`ulimit -n 65536`"),
    ],
    ids=errno.errorcode.get,
)
def test_the_number_of_the_error_says_what_to_type(number: int, line: str) -> None:
    assert line in str(caused(number))


def test_a_hint_of_its_own_comes_first() -> None:
    assert caused(errno.ENOSPC, hint="choose another place").hint == "choose another place"


def test_what_nothing_is_known_about_has_no_hint() -> None:
    assert caused(errno.EPROTO).hint is None
    assert how_to_mend(ValueError("x"), PLACE) is None
    assert DumbwaiterError("something").hint is None


def test_what_names_paths_is_not_the_error_s_own() -> None:
    assert caused(errno.ENOSPC).own_hint is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x"), "No space left on device"),
        (shutil.Error("two files could not be copied"), "two files could not be copied"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("odd"), "odd"),
    ],
    ids=["a number", "no number", "nothing at all", "no error of the system"],
)
def test_an_error_always_says_something(error: Exception, words: str) -> None:
    assert words_of(error) == words
