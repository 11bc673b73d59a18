"""Tables fit the width they are given."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from host.cli.output import short_moment
from host.cli.table import Column, fitted
from shared_schema.clock import to_text

COLUMNS = (Column("id"), Column("title", cut=True), Column("chat", cut=True, spare=1), Column("when", spare=2))
ROW = ("01234", "The plan for the summer holidays in the north", "telegram:-100200300", "Mon 17:03")


def test_what_fits_is_whole() -> None:
    assert fitted(COLUMNS, [ROW], None)[1] == "  ".join(ROW)


def test_what_may_be_cut_is_cut_and_the_widest_first() -> None:
    heading, line = fitted(COLUMNS, [ROW], 70)

    assert line == "01234  The plan for the summer holida…  telegram:-100200300  Mon 17:03"
    assert heading.split() == ["id", "title", "chat", "when"]


def test_what_can_be_spared_is_left_out_before_anything_is_cut_to_nothing() -> None:
    assert fitted(COLUMNS, [ROW], 40)[0].split() == ["id", "title", "chat", "when"]
    assert fitted(COLUMNS, [ROW], 30)[0].split() == ["id", "title", "chat"]
    assert fitted(COLUMNS, [ROW], 20)[1].split()[0] == "01234"
    assert fitted(COLUMNS, [ROW], 20)[0].split() == ["id", "title"]


@given(st.lists(st.tuples(*[st.text("ab 日本🙂é", max_size=60)] * 3), max_size=5), st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal(texts: list[tuple[str, str, str]], width: int) -> None:
    rows = [("01234", *each) for each in texts]
    columns = (Column("id"), *(Column(f"c{number}", cut=True, spare=number) for number in range(3)))

    assert all(cell_len(line) <= width for line in fitted(columns, rows, width))


@pytest.mark.parametrize(
    ("ago", "form"),
    [
        (timedelta(0), "%H:%M"),
        (timedelta(days=3), "%a %H:%M"),
        (timedelta(days=-6), "%a %H:%M"),  # what is due
        (timedelta(days=-7), "%Y-%m-%d"),
        (timedelta(days=30), "%Y-%m-%d"),
    ],
)
def test_a_time_is_as_short_as_it_can_be(ago: timedelta, form: str) -> None:
    now = datetime(2026, 11, 20, 21, 39).astimezone()

    assert short_moment(to_text(now - ago), now) == f"{now - ago:{form}}"


def test_what_is_no_time_is_none() -> None:
    assert short_moment("17:03") is None
