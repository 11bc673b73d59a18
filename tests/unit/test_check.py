"""What a message of an agent's must look like to be taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.delivery.check import RowRefused, checked
from shared_schema.rows import MessageOut, MessageOutKind, encode

LONGEST = 100
GOOD: dict[str, Any] = {
    "seq": 1,
    "id": "msg_0123456789abcdef",
    "turn_id": None,
    "in_reply_to": None,
    "generation": 1,
    "timestamp": "2026-02-28T12:00:00.000Z",
    "deliver_after": None,
    "kind": "chat",
    "destination": None,
    "channel_type": None,
    "platform_id": None,
    "thread_id": None,
    "content": '{"text":"hello"}',
}


def row(**changes: Any) -> MessageOut:
    return MessageOut(**(GOOD | changes))


def test_a_good_row_is_taken_with_its_parts() -> None:
    message = checked(
        row(
            turn_id="trn_1",
            in_reply_to="msg_1",
            destination="home",
            deliver_after="2026-02-28T12:00:00.000Z",
            content='{"text":"hello","files":["a.txt","b c"]}',
        ),
        max_text=LONGEST,
    )
    assert (message.text, message.files, message.kind) == ("hello", ("a.txt", "b c"), MessageOutKind.CHAT)
    assert (message.turn_id, message.in_reply_to, message.destination) == ("trn_1", "msg_1", "home")
    assert message.deliver_after == "2026-02-28T12:00:00.000Z"


@pytest.mark.parametrize("kind", list(MessageOutKind))
@pytest.mark.parametrize("content", ['{"text":"x"}', "{}", '{"emoji":"+1","to":3}'])
def test_every_kind_may_carry_any_object(kind: MessageOutKind, content: str) -> None:
    assert checked(row(kind=kind.value, content=content), max_text=LONGEST).canonical == content


@pytest.mark.parametrize("text", ["", "x" * LONGEST, "🐢" * LONGEST, "a\nb\tc"])
def test_text_up_to_the_limit_is_taken(text: str) -> None:
    assert checked(row(content=encode({"text": text})), max_text=LONGEST).text == text


BAD: list[tuple[dict[str, Any], str]] = [
    ({"id": None}, "its id is not a message id"),
    ({"id": 7}, "its id is not a message id"),
    ({"id": "msg_1"}, "its id is not a message id"),
    ({"id": "../../../etc/passwd"}, "its id is not a message id"),
    ({"id": "ses_0123456789abcdef"}, "its id is not a message id"),
    ({"id": "msg_0123456789abcdef\x00"}, "its id is not a message id"),
    ({"id": b"msg_0123456789abcdef"}, "its id is not a message id"),
    ({"generation": None}, "its generation is not a number"),
    ({"generation": "1"}, "its generation is not a number"),
    ({"generation": 1.0}, "its generation is not a number"),
    ({"kind": None}, "its kind is unknown"),
    ({"kind": ""}, "its kind is unknown"),
    ({"kind": "CHAT"}, "its kind is unknown"),
    ({"kind": b"chat"}, "its kind is unknown"),
    ({"kind": ["chat"]}, "its kind is unknown"),
    ({"turn_id": ""}, "its turn_id is not an identifier"),
    ({"turn_id": 5}, "its turn_id is not an identifier"),
    ({"in_reply_to": "x" * 501}, "its in_reply_to is not an identifier"),
    ({"in_reply_to": b"msg"}, "its in_reply_to is not an identifier"),
    ({"destination": ""}, "its destination is not an identifier"),
    ({"destination": 1.5}, "its destination is not an identifier"),
    ({"content": None}, "its content is not text"),
    ({"content": b'{"text":"x"}'}, "its content is not text"),
    ({"content": 17}, "its content is not text"),
    ({"content": ""}, "its content is not a JSON object"),
    ({"content": "hello"}, "its content is not a JSON object"),
    ({"content": "[]"}, "its content is not a JSON object"),
    ({"content": "null"}, "its content is not a JSON object"),
    ({"content": '{"text":null}'}, "its text is not text"),
    ({"content": '{"text":{"a":1}}'}, "its text is not text"),
    ({"content": '{"text":"' + "x" * (LONGEST + 1) + '"}'}, f"it has more than {LONGEST} characters"),
    ({"content": '{"other":"' + "x" * (4 * LONGEST) + '"}'}, f"it has more than {LONGEST} characters"),
    ({"content": '{"text":"\\ud800"}'}, "its content has half characters"),
    ({"content": '{"other":{"deep":["\\udfff"]}}'}, "its content has half characters"),
    ({"content": '{"\\ud800":1}'}, "its content has half characters"),
    ({"content": '{"files":"a"}'}, "its files are not a list of file names"),
    ({"content": '{"files":{"a":1}}'}, "its files are not a list of file names"),
    ({"content": '{"files":[1]}'}, "its files are not a list of file names"),
    ({"content": '{"files":[["a"]]}'}, "its files are not a list of file names"),
    ({"content": '{"files":[""]}'}, "its files are not a list of file names"),
    ({"content": '{"files":[".."]}'}, "its files are not a list of file names"),
    ({"content": '{"files":["../x"]}'}, "its files are not a list of file names"),
    ({"content": '{"files":["/etc/passwd"]}'}, "its files are not a list of file names"),
    ({"content": '{"files":["a\\u0000b"]}'}, "its files are not a list of file names"),
    ({"content": '{"files":["good","' + "x" * 256 + '"]}'}, "its files are not a list of file names"),
    ({"timestamp": None}, "its timestamp is not a time"),
    ({"timestamp": "yesterday"}, "its timestamp is not a time"),
    ({"deliver_after": ""}, "its deliver_after is not a time"),
    ({"deliver_after": "tomorrow"}, "its deliver_after is not a time"),
    ({"deliver_after": 1_700_000_000}, "its deliver_after is not a time"),
    ({"deliver_after": "2026-02-28T12:00:00Z"}, "its deliver_after is not a time"),
    ({"deliver_after": b"2026-02-28T12:00:00.000Z"}, "its deliver_after is not a time"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD, ids=[repr(changes)[:50] for changes, _ in BAD])
def test_a_bad_row_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowRefused) as caught:
        checked(row(**changes), max_text=LONGEST)
    assert str(caught.value) == reason


def test_content_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(RowRefused, match="its content is not a JSON object"):
        checked(row(content='{"a":' * 100_000 + "1" + "}" * 100_000), max_text=1_000_000)


ANYTHING = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.binary(max_size=20),
    st.text(max_size=20),
    st.sampled_from([*GOOD.values()]),
)


@settings(deadline=None, max_examples=300)
@given(st.fixed_dictionaries(dict.fromkeys(GOOD, ANYTHING)))
def test_whatever_a_file_holds_is_taken_or_refused(values: dict[str, Any]) -> None:
    try:
        message = checked(row(**values), max_text=LONGEST)
    except RowRefused:
        return
    assert isinstance(message.text, str)
    assert len(message.text) <= LONGEST
    assert message.content.encode("utf-8").decode("utf-8") == message.content


NESTED = {
    "within its bounds": '{"a":' * 60 + "1" + "}" * 60,
    "beyond them": '{"a":' * 70 + "1" + "}" * 70,
    "as deep as a thread with much room takes": '{"a":' * 960 + "1" + "}" * 960,
    "lists in lists": '{"a":' + "[" * 950 + "]" * 950 + "}",
}


@pytest.mark.parametrize("name", NESTED)
def test_how_deep_a_content_may_be_nested_does_not_depend_on_who_reads_it(name: str) -> None:
    def taken(room: int) -> bool:
        """With so many calls below."""
        if room:
            return taken(room - 1)
        try:
            checked(row(kind="card", content=NESTED[name]), max_text=10_000)
        except RowRefused:
            return False
        return True

    assert {taken(0), taken(400), taken(700)} == {name == "within its bounds"}


def test_what_the_host_keeps_is_its_own_text_of_the_content() -> None:
    message = checked(row(kind="edit", content='{ "text":"a", "text" : "b\\u00e9", "n": 1e2 }'), max_text=LONGEST)
    assert (message.text, message.canonical) == ("b\u00e9", '{"text":"b\u00e9","n":100.0}')


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 30, "9" * 4000, "-" + "9" * 30])
def test_numbers_that_other_readers_cannot_hold_are_refused(number: str) -> None:
    with pytest.raises(RowRefused, match="not a JSON object"):
        checked(row(kind="card", content=f'{{"n": {number}}}'), max_text=10_000)
