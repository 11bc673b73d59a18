"""Row types, and the JSON in content columns."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_schema.database import open_writer
from shared_schema.errors import FileDamaged
from shared_schema.migrate import INBOUND, OUTBOUND, Schema, migrate
from shared_schema.rows import Ack, AgentState, Delivered, Destination, MessageIn, MessageOut, Row, Turn, decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON))
def test_what_is_encoded_is_decoded_again(content: dict[str, object]) -> None:
    assert decode(encode(content)) == content


def test_content_is_compact_and_readable_for_people() -> None:
    assert encode({"text": "żółw 龜", "files": []}) == '{"text":"żółw 龜","files":[]}'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("{'text': 1}", "is not JSON"),
        ('{"text": "a"} x', "is not JSON"),
        ("[" * 100_000 + "]" * 100_000, "is not JSON"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "is not JSON"),
        ('{"n": ' + "9" * 5_000 + "}", "is not JSON"),
        (None, "is not JSON"),
        (17, "is not JSON"),
        ("[]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ("null", "is not a JSON object"),
        ("1", "is not a JSON object"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_anything_but_an_object_is_damage(text: object, what: str) -> None:
    with pytest.raises(FileDamaged, match=what):
        decode(text)  # type: ignore[arg-type]


TABLES: list[tuple[Schema, str, type[Row]]] = [
    (INBOUND, "messages_in", MessageIn),
    (INBOUND, "delivered", Delivered),
    (INBOUND, "destinations", Destination),
    (OUTBOUND, "messages_out", MessageOut),
    (OUTBOUND, "processing_ack", Ack),
    (OUTBOUND, "turns", Turn),
    (OUTBOUND, "agent_state", AgentState),
]


@pytest.mark.parametrize(("schema", "table", "row_type"), TABLES, ids=[table for _, table, _ in TABLES])
def test_a_row_type_has_only_columns_of_its_table(
    tmp_path: Path, schema: Schema, table: str, row_type: type[Row]
) -> None:
    with closing(open_writer(tmp_path / "file.db", create=True)) as connection:
        migrate(connection, schema)
        columns = {row["name"] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}
    assert columns >= set(row_type.__slots__)
    assert row_type.__slots__


def test_a_row_with_more_columns_than_this_version_knows_is_read() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        row = connection.execute(
            "SELECT 'm' AS message_id, 'failed' AS status, 't' AS turn_id, NULL AS error, 'now' AS status_changed, "
            "1 AS unheard_of"
        ).fetchone()
    assert Ack.from_row(row) == Ack("m", "failed", "t", None, "now")


@pytest.mark.parametrize(
    ("content", "text"), [('{"text":"hi"}', "hi"), ("{}", ""), ('{"text":null}', ""), ('{"text":5}', "5")]
)
def test_the_text_of_a_message_is_always_text(content: str, text: str) -> None:
    message = MessageIn(
        1, "msg", "chat", "t", 1, 1, "pending", 0, None, "memory", "one", "t1", "ann", "Ann", None, content
    )
    assert message.text == text
    assert message.address == ("memory", "one", "t1")
