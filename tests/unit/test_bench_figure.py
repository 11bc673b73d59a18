"""What `make bench` says of a figure is true, and `build/bench.json` says it in the agreed form."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shared_schema.migrate import OUTBOUND, migrate
from tests.bench.burst import faults_of
from tests.bench.figure import Figure, Target, above, at_most, percentile, times
from tests.bench.population import grow
from tests.bench.report import Run, markdown, number

SLOW = Figure("warm round trip", 9.0, "ms", 2.0, times(3), published=720.0)
HEAVY = Figure("memory", 65.0, "MB", 58.0, above(60))
STILL = Figure("CPU at rest", 0.0, "percent", 0.0, at_most(1), published=22.0)
PART = Figure("a part", 1.0, "ms", None, note="one of five")


def row(figure: Figure) -> dict[str, object]:
    return dict(figure.to_row())


@pytest.mark.parametrize(
    ("target", "value", "floor", "reached"),
    [
        (times(3), 6.0, 2.0, True),
        (times(3), 6.1, 2.0, False),
        (above(60), 118.0, 58.0, True),
        (above(60), 119.0, 58.0, False),
        (at_most(2), 2.0, 0.5, True),
        (at_most(2), 2.1, 1.9, False),
        (at_most(1), 0.5, 0.0, True),
        (at_most(1), 1.5, None, False),
        (None, 1.0, 1.0, None),
    ],
)
def test_a_target_is_reached_up_to_its_limit(
    target: Target | None, value: float, floor: float | None, reached: bool | None
) -> None:
    assert Figure("figure", value, "ms", floor, target).reached is reached


def test_a_target_relative_to_a_floor_needs_one() -> None:
    with pytest.raises(AssertionError, match="needs a floor"):
        assert Figure("figure", 1.0, "ms", None, times(3)).reached


def test_a_floor_of_nothing_makes_no_ratio_and_a_value_of_nothing_no_factor() -> None:
    assert (SLOW.ratio, SLOW.factor) == (4.5, 80.0)
    assert (STILL.ratio, STILL.factor) == (None, None)
    assert (PART.ratio, PART.factor) == (None, None)


def test_the_file_holds_every_figure_in_the_agreed_form(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"

    Run("two cores", 12.5, [SLOW, HEAVY, STILL, PART], ["nothing with docker"]).save(path)

    figures = json.loads(path.read_text())["figures"]
    assert [
        {key: figure[key] for key in ("name", "value", "unit", "floor", "ratio", "target", "target_is", "reached")}
        for figure in figures[:3]
    ] == [
        {
            "name": "warm round trip",
            "value": 9.0,
            "unit": "ms",
            "floor": 2.0,
            "ratio": 4.5,
            "target": 3,
            "target_is": "times the floor",
            "reached": False,
        },
        {
            "name": "memory",
            "value": 65.0,
            "unit": "MB",
            "floor": 58.0,
            "ratio": pytest.approx(1.1207, abs=1e-4),
            "target": 60,
            "target_is": "above the floor",
            "reached": True,
        },
        {
            "name": "CPU at rest",
            "value": 0.0,
            "unit": "percent",
            "floor": 0.0,
            "ratio": None,
            "target": 1,
            "target_is": "absolute",
            "reached": True,
        },
    ]
    assert (figures[3]["target"], figures[3]["target_is"], figures[3]["reached"]) == (None, None, None)


def test_what_was_saved_is_read_as_it_was(tmp_path: Path) -> None:
    run = Run("two cores", 12.5, [SLOW, HEAVY, STILL, PART], ["nothing with docker"])
    run.save(tmp_path / "bench.json")

    assert Run.load(tmp_path / "bench.json") == run


def test_the_table_for_the_documentation_says_how_each_target_is_meant() -> None:
    text = markdown(Run("two cores", 12.5, [SLOW, HEAVY, STILL, PART], ["nothing with docker"]))

    assert text.splitlines() == [
        "| figure | value | floor | ratio | target | reached | published | factor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| warm round trip | 9.00 ms | 2.00 ms | 4.50 | 3x | **no** | 720 ms | 80x |",
        "| memory | 65.0 MB | 58.0 MB | 1.12 | +60 MB | yes | - | - |",
        "| CPU at rest | 0 percent | 0 percent | - | 1 percent | yes | 22.0 percent | - |",
        "| a part (1) | 1.00 ms | - | - | - | - | - | - |",
        "",
        "(1) one of five",
        "",
        "nothing with docker",
        "",
        "two cores; measured in 12 s",
    ]


def test_numbers_are_written_with_three_digits() -> None:
    assert [number(value) for value in (0.0, 0.0123, 0.5, 9.876, 12.34, 999.6, 1234.5)] == [
        *("0", "0.012", "0.50", "9.88", "12.3", "1,000", "1,234")
    ]


def test_percentiles_are_of_the_values_themselves() -> None:
    values = [float(value) for value in range(101)]

    assert (percentile(values, 50), percentile(values, 95)) == (50.0, 95.0)


@pytest.mark.parametrize(
    ("heard", "faults"),
    [
        (["0", "1", "2"], 0),
        (["0", "2"], 1),
        (["0", "1", "1", "2"], 1),
        (["1", "0", "2"], 1),
        (["0", "1", "2", "something else"], 1),
        ([], 3),
    ],
)
def test_a_burst_counts_what_is_lost_doubled_or_out_of_order(heard: list[str], faults: int) -> None:
    assert faults_of(heard, 3) == faults


def test_a_conversation_grows_to_as_many_rows_as_asked_each_with_an_id_of_its_own(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "outbound.db", isolation_level=None)) as connection:
        migrate(connection, OUTBOUND)
        connection.row_factory = sqlite3.Row
        connection.executemany(
            "INSERT INTO messages_out (id, generation, timestamp, kind, content) VALUES (?, 1, '', 'chat', '{}')",
            [(f"msg_{number:016d}",) for number in range(7)],
        )

        grow(connection, "messages_out", 100)

        found = connection.execute(
            "SELECT count(*) AS n, count(DISTINCT id) AS ids, min(length(id)) AS shortest, max(seq) AS last"
            " FROM messages_out"
        ).fetchone()
    assert tuple(found) == (100, 100, 20, 100)
