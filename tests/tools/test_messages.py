"""Tools that write to people, and what is not said twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from container_agent.providers.protocol import Attachment, Reply
from container_agent.tools.repeats import without_repeats
from tests.agent.session import BareSession
from tests.tools.bench import Turn, destination, write


async def test_a_message_goes_to_the_chat_or_to_a_named_destination(session: BareSession) -> None:
    destination(session, "team", "elsewhere")
    turn = Turn(session)
    box = await turn.tools()
    assert await box.call("list_destinations", {}) == "team (cli, Team)"
    assert await box.call("send_message", {"text": "here"}) == "sent as out-1"
    assert await box.call("send_message", {"text": "there", "destination": "team"}) == "sent as out-2 to team"
    refused = await box.call("send_message", {"text": "no", "destination": "boss"})
    assert refused == "Error: 'boss' is not one of your destinations: team"
    assert [(row["in_reply_to"], row["destination"]) for row in turn.out_rows()] == [
        (turn.message_id, None),
        (turn.message_id, "team"),
    ]


async def test_files_go_out_from_both_folders_and_from_nowhere_else(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    write(session.workspace / "made" / "report.txt", "made")
    came = write(session.layout.inbox / turn.message_id / "photo.png", "came")
    outside = write(session.workspace.parent / "host.txt", "secret")
    (session.workspace / "link").symlink_to(outside)
    assert await box.call("send_file", {"path": "made/report.txt", "text": "look"}) == "sent as out-1"
    assert await box.call("send_file", {"path": str(came), "name": "yours.png"}) == "sent as out-2"
    for path in ("link", str(outside), "../host.txt", "made", "nowhere", "a\0b"):
        assert (await box.call("send_file", {"path": path})).startswith("Error: ")
    assert [reply.files for reply in turn.out.sent] == [
        (Attachment("report.txt", session.workspace / "made" / "report.txt"),),
        (Attachment("yours.png", came),),
    ]


async def test_messages_are_edited_and_reacted_to_by_their_names(turn: Turn) -> None:
    box = await turn.tools()
    await box.call("send_message", {"text": "frist"})
    assert await box.call("edit_message", {"message": "out-1", "text": "first"}) == "out-1 is edited"
    assert await box.call("add_reaction", {"message": "in-1", "emoji": "👍"}) == "👍 is put under in-1"
    assert await box.call("add_reaction", {"message": "out-1", "emoji": "🎉"}) == "🎉 is put under out-1"
    first, edit, reaction, own = turn.out_rows()
    assert (edit["kind"], edit["content"]) == ("edit", {"text": "first", "edit": first["id"]})
    assert reaction["kind"] == "reaction"
    assert reaction["content"] == {"text": "👍", "react_to": turn.message_id, "emoji": "👍"}
    assert own["content"]["react_to"] == first["id"]
    for name in ("in-1", "out-2", "out-99", "first", "out-0"):
        assert (await box.call("edit_message", {"message": name, "text": "x"})).startswith("Error: ")
    assert (await box.call("add_reaction", {"message": "in-99", "emoji": "x"})).startswith("Error: there is no message")


async def test_a_card_has_a_text_for_platforms_without_cards(turn: Turn) -> None:
    box = await turn.tools()
    await box.call("send_card", {"title": "Build", "fields": [{"name": "state", "value": "green"}]})
    (row,) = turn.out_rows()
    assert row["kind"] == "card"
    assert row["content"]["text"] == "Build\nstate: green"
    assert row["content"]["card"]["fields"] == [{"name": "state", "value": "green"}]
    refused = await box.call("send_card", {"title": "x", "fields": [{"name": "n"}]})
    assert refused == "Error: the argument 'fields[0].value' is missing"


def test_a_final_answer_that_was_sent_by_tool_to_the_same_place_is_left_out(session: BareSession) -> None:
    destination(session, "here-too", "here")
    destination(session, "team", "elsewhere")
    turn = Turn(session)
    here = turn.message_id
    final = [Reply("Done.  It works\n"), Reply("other"), Reply("Done. It works", files=(Attachment("a", b""),))]

    def left(sent: Reply) -> list[str]:
        return [reply.text for reply in without_repeats(final, [sent], turn.request)]

    assert len(left(Reply("Done. It works", in_reply_to=here))) == 2
    assert len(left(Reply("Done. It works", destination="here-too"))) == 2
    assert len(left(Reply("Done. It works", destination="team"))) == 3
    assert len(left(Reply("Done", in_reply_to=here))) == 3


def test_two_messages_of_a_turn_may_have_the_same_answer(session: BareSession) -> None:
    turn = Turn(session)
    (first,) = turn.request.messages
    second = replace(first, id="msg_0123456789abcdef", seq=first.seq + 1)
    request = replace(turn.request, messages=(first, second))
    sent = [Reply("Done", in_reply_to=first.id)]
    assert without_repeats([Reply("Done", in_reply_to=first.id)], sent, request) == []
    answer = Reply("Done", in_reply_to=second.id)
    assert without_repeats([answer], sent, request) == [answer]


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_answer_is_no_repeat_of_nothing(session: BareSession, text: str) -> None:
    turn = Turn(session)
    assert without_repeats([Reply(text)], [], turn.request) == [Reply(text)]
