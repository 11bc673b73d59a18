"""How much history takes of one session in an hour."""

from __future__ import annotations

from host.history.entry import COLUMNS, Entry
from host.history.intake import HourlyIntake


def entry(text: str = "hello") -> Entry:
    return Entry(**(dict.fromkeys(COLUMNS) | {"session_id": "ses_1", "text": text}))  # type: ignore[arg-type]


def test_rows_are_counted_for_each_session_and_each_hour() -> None:
    intake = HourlyIntake(rows=10, size=10**9)
    intake.took("ses_1", [entry()] * 9, 0.0)
    intake.took("ses_2", [entry()], 100.0)
    assert intake.has_room("ses_1", 100.0)
    intake.took("ses_1", [entry()], 100.0)
    assert (intake.full(200.0), intake.has_room("ses_2", 200.0)) == (["ses_1"], True)
    assert intake.has_room("ses_1", 3_600.0)
    assert intake.full(3_600.0) == []


def test_texts_are_counted_by_their_size() -> None:
    intake = HourlyIntake(rows=10**6, size=1_000_000)
    intake.took("ses_1", [entry("x" * 600_000)], 0.0)
    assert intake.has_room("ses_1", 1.0)
    intake.took("ses_1", [entry("x" * 600_000)], 2.0)
    assert not intake.has_room("ses_1", 3.0)
    assert intake.has_room("ses_3", 3.0)


def test_what_is_over_is_forgotten() -> None:
    intake = HourlyIntake(rows=1, size=10**9)
    for number in range(1_000):
        intake.took(f"ses_{number}", [entry()], float(number))
    assert len(intake.full(4_000.0)) == 599


def test_a_session_that_has_all_that_is_kept_of_one_has_no_room_also_in_the_next_hour() -> None:
    intake = HourlyIntake(rows=10, size=10**9, most_rows=100, most_size=1_000_000)
    assert not intake.is_filled("ses_1", (99, 999_999))
    assert intake.is_filled("ses_1", (100, 0))
    assert intake.is_filled("ses_2", (0, 1_000_000))
    assert not intake.has_room("ses_1", 10_000.0)
    assert sorted(intake.full(10_000.0)) == ["ses_1", "ses_2"]
    intake.forget("ses_1")
    assert intake.has_room("ses_1", 0.0)
