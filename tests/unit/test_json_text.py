"""JSON of others is read within fixed bounds, by one module."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared_schema.json_text import MAX_DEPTH, parse

ROOT = Path(__file__).resolve().parents[2]

ITS_OWN = {
    "shared_schema/json_text.py": "the one that bounds it",
    "host/api/client.py": "answers of the host",
    "host/central/agent_groups.py": "columns the host wrote",
    "host/central/session_list.py": "columns the host wrote",
    "host/operations/events.py": "columns the host wrote",
    "host/history/rebuild.py": "lines of its own workers",
    "host/history/rebuild_worker.py": "lines of its own parent",
    "host/runtime/process_record.py": "a file the host wrote",
    "host/central/repairs.py": "columns the host wrote",
    "host/place.py": "a file the host wrote",
    "host/channels/build.py": "a setting of the person's own",
    "host/channels/discord/client.py": "a frame that Discord's SDK has read before",
    "host/channels/telegram/client.py": "an answer of the Bot API, looked at once and not kept",
    "host/backup/archive.py": "a file the person named, checked against its own checksums",
    "host/runtime/engine_address.py": "the configuration of the person's own docker",
    "host/gateway/expected.py": "one string, which has no depth",
    "host/operations/model_services.py": "an answer the person asked for, looked at once and not kept",
    "host/operations/foreign_exports.py": "the beginning of a file the person named, looked at once and not kept",
    "host/gateway/usage.py": "replies of services, within a budget of its own, read once and not kept",
}
"""Where `json.loads` is called otherwise, and whose text that is."""


def test_nothing_else_reads_json_of_others() -> None:
    found = {
        str(path.relative_to(ROOT))
        for side in ("host", "shared_schema")
        for path in (ROOT / side).rglob("*.py")
        if "json.loads(" in path.read_text() or "json.load(" in path.read_text()
    }
    assert found - ITS_OWN.keys() == set(), "shared_schema.json_text.parse reads what others wrote"


@pytest.mark.parametrize("value", [{}, [], "x", 7, -1.5, None, True, {"a": [{"b": "ü"}]}, 2**63 - 1])
def test_a_value_is_what_json_says(value: object) -> None:
    assert parse(json.dumps(value)) == value


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_counted_and_not_felt(opening: str, closing: str) -> None:
    levels = 2 if len(opening) > 5 else 1
    fits = MAX_DEPTH // levels
    assert parse(opening * fits + "1" + closing * fits)
    for depth in (fits + 1, 500, 2_000, 100_000):
        with pytest.raises(ValueError, match=r"nested too deep|Expecting"):
            parse(opening * depth + "1" + closing * depth)


@pytest.mark.parametrize("text", ["", "{", "nope", "NaN", "[Infinity]", "1e999", "9" * 20, "[" * 100_000, '"\x01"'])
def test_everything_else_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)
