"""Tools that write to people, and what is not said twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from container_agent.providers.protocol import OutgoingFile, Reply
from container_agent.tools.said_already import not_said_yet
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
        (OutgoingFile("report.txt", session.workspace / "made" / "report.txt"),),
        (OutgoingFile("yours.png", came),),
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
    final = [Reply("Done.  It works\n"), Reply("other"), Reply("Done. It works", files=(OutgoingFile("a", b""),))]

    def left(sent: Reply) -> list[str]:
        return [reply.text for reply in not_said_yet(final, [sent], turn.request)]

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
    assert not_said_yet([Reply("Done", in_reply_to=first.id)], sent, request) == []
    answer = Reply("Done", in_reply_to=second.id)
    assert not_said_yet([answer], sent, request) == [answer]


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_answer_is_no_repeat_of_nothing(session: BareSession, text: str) -> None:
    turn = Turn(session)
    assert not_said_yet([Reply(text)], [], turn.request) == [Reply(text)]


async def test_what_the_host_would_refuse_is_refused_by_the_tool(session: BareSession) -> None:
    destination(session, "team", "elsewhere")
    session.write(
        "INSERT INTO destinations (name, type, agent_group_id) VALUES (?, ?, ?)", ("helper", "agent_group", "agr_1")
    )
    turn = Turn(session)
    turn.request = replace(
        turn.request, context=replace(turn.request.context, max_text=10, max_files=0, max_file_bytes=3)
    )
    turn.tool_context = replace(turn.tool_context, request=turn.request)
    box = await turn.tools()
    long = "Error: the text has 11 characters, and 10 are allowed: send a file"
    assert await box.call("send_message", {"text": "x" * 11}) == long
    assert await box.call("send_message", {"text": "fits"}) == "sent as out-1"
    assert await box.call("edit_message", {"message": "out-1", "text": "x" * 11}) == long
    assert "11 characters" in await box.call("send_card", {"title": "12345", "text": "67890"})
    write(session.workspace / "small", "abc")
    write(session.workspace / "large", "abcd")
    assert "takes no files" in await box.call("send_file", {"path": "small"})
    assert "4 bytes, and 3 are allowed" in await box.call("send_file", {"path": "large", "destination": "team"})
    assert await box.call("send_file", {"path": "small", "destination": "team"}) == "sent as out-2 to team"
    assert await box.call("send_message", {"text": "hi", "destination": "helper"}) == "sent as out-3 to helper"


async def test_destinations_are_those_of_this_moment(session: BareSession) -> None:
    destination(session, "team", "elsewhere")
    turn = Turn(session)
    box = await turn.tools()
    assert await box.call("send_message", {"text": "one", "destination": "team"}) == "sent as out-1 to team"
    session.write("DELETE FROM destinations")
    gone = "Error: 'team' is not one of your destinations: none"
    assert await box.call("send_message", {"text": "two", "destination": "team"}) == gone
    assert await box.call("edit_message", {"message": "out-1", "text": "two"}) == gone
    assert await box.call("add_reaction", {"message": "out-1", "emoji": "x"}) == gone
    destination(session, "boss", "above")
    assert await box.call("list_destinations", {}) == "boss (cli, Boss)"
    assert await box.call("send_message", {"text": "three", "destination": "boss"}) == "sent as out-2 to boss"


async def test_a_message_that_never_arrived_is_neither_edited_nor_reacted_to(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    await box.call("send_message", {"text": "lost"})
    (row,) = turn.out_rows()
    session.write(
        "INSERT INTO delivered (message_out_id, status, error, attempts, delivered_at)"
        " VALUES (?, 'failed', 'gone', 1, ?)",
        (row["id"], "2026-02-28T12:00:00.000Z"),
    )
    for tool, more in (("edit_message", {"text": "x"}), ("add_reaction", {"emoji": "x"})):
        assert await box.call(tool, {"message": "out-1", **more}) == "Error: 'out-1' never arrived: gone"


async def test_only_what_people_wrote_has_a_name_that_tools_take(turn: Turn, session: BareSession) -> None:
    box = await turn.tools()
    turn.answer("msg_0", result=[])  # in-2: the host's answer to a request
    assert (await box.call("add_reaction", {"message": "in-2", "emoji": "x"})).startswith("Error: there is no message")
    await box.call("add_reaction", {"message": "in-1", "emoji": "x"})
    assert (await box.call("add_reaction", {"message": "out-1", "emoji": "x"})).startswith("Error: there is no message")
