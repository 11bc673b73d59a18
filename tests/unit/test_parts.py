"""An answer larger than a message may be goes in parts that each make sense, or as a file (FAILURES 53)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from container_agent.parts import MOST_PARTS, of_reply
from container_agent.providers.protocol import OutgoingFile, Reply
from shared_schema.rows import MessageOutKind


def texts(text: str, most: int) -> list[str]:
    return [reply.text for reply in of_reply(Reply(text), most)]


def test_what_fits_is_left_as_it_is() -> None:
    reply = Reply("x" * 100)
    assert of_reply(reply, 100) == [reply]


def test_paragraphs_stay_whole_where_they_can() -> None:
    assert texts("a" * 60 + "\n\n" + "b" * 60, 100) == ["a" * 60, "b" * 60]
    assert texts("a" * 60 + "\n" + "b" * 60, 100) == ["a" * 60, "b" * 60]
    assert texts("a" * 60 + " " + "b" * 60, 100) == ["a" * 60, "b" * 60]


def test_a_block_of_code_is_closed_and_opened_again() -> None:
    code = "\n".join(f"line {number}" for number in range(30))
    found = texts(f"Look:\n```python\n{code}\n```\nDone.", 150)
    assert len(found) > 1
    assert all(part.count("```") == 2 for part in found)
    assert all(part.startswith("```python\n") for part in found[1:])
    assert [line for part in found for line in part.splitlines() if line.startswith("line ")] == code.splitlines()


def test_files_go_with_the_last_part() -> None:
    file = OutgoingFile("a.txt", b"a")
    replies = of_reply(Reply("a" * 60 + "\n\n" + "b" * 60, in_reply_to="msg", files=(file,)), 100)
    assert [reply.files for reply in replies] == [(), (file,)]
    assert {reply.in_reply_to for reply in replies} == {"msg"}


def test_an_answer_of_very_many_parts_is_a_file() -> None:
    text = "word " * 1000
    (reply,) = of_reply(Reply(text), 100)
    assert reply.text == "This answer has 5000 characters, and comes as a file."
    assert reply.files == (OutgoingFile("answer.md", text.encode()),)


def test_what_is_no_answer_is_not_split() -> None:
    reply = Reply("x" * 1000, kind=MessageOutKind.CARD)
    assert of_reply(reply, 100) == [reply]


@given(st.text(max_size=400), st.integers(min_value=40, max_value=120))
def test_no_part_is_too_long_and_no_word_is_lost(text: str, most: int) -> None:
    replies = of_reply(Reply(text), most)
    assert all(len(reply.text) <= most for reply in replies)
    assert len(replies) <= MOST_PARTS
    if "`" not in text and "~" not in text and not replies[-1].files:
        assert "".join("".join(reply.text for reply in replies).split()) == "".join(text.split())
