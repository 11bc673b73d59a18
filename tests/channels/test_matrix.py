"""The channel `matrix` over matrix-nio and a real Synapse, in a real host with real agents."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from host.channels.build import settings_of
from host.channels.matrix import TYPE as MATRIX
from host.channels.protocol import ChannelRefused, ChannelUnavailable, DeliveryRefused, Ingest, Outgoing
from host.routing.event import ChatMoved, Deleted, Edited, Incoming, Joined, Reacted, ReadReceipt, Receipt
from shared_schema.errors import FileTrouble
from shared_schema.rows import Address
from tests.channels.open_host import ChannelHost, DyingHost, channel_host
from tests.platforms import faulty_proxy
from tests.platforms.faulty_proxy import FaultyProxy
from tests.platforms.synapse import Person, Synapse
from tests.support.wait import until


@pytest.fixture
def server(homeserver: Synapse) -> Synapse:
    return homeserver


@dataclass
class Talk:
    """A bot, a person, and a room of both that is wired to the bot's agent."""

    bot: Person
    ann: Person
    room: str
    settings: dict[str, Any]
    data: Path


@pytest.fixture
async def talk(server: Synapse, tmp_path: Path) -> Talk:
    bot, ann = server.person("bot"), server.person("ann")
    room = ann.room(bot.user_id, is_direct=True)
    bot.join(room)
    return Talk(bot, ann, room, settings(bot), tmp_path / "data")


def settings(bot: Person, **more: Any) -> dict[str, Any]:
    return {"homeserver": bot.url, "token": bot.token, "sync_seconds": 5, **more}


@pytest.fixture
async def there(talk: Talk) -> AsyncIterator[ChannelHost]:
    async with channel_host(talk.data, MATRIX, talk.settings, chats=[talk.room]) as there:
        await synced(there)
        yield there


async def synced(there: ChannelHost) -> None:
    """Wait until the channel knows from where on it listens."""

    async def has_token() -> bool:
        return await there.context.state.get("sync") is not None

    await until(has_token, "the first sync is done", 60)


async def test_a_message_is_answered_in_its_room_and_marked_as_read(there: ChannelHost, talk: Talk) -> None:
    event_id = talk.ann.say(talk.room, "reply 1 **pong** <b>")
    (answer,) = await talk.ann.got(talk.room, talk.bot.user_id, 1)

    assert answer["content"]["body"] == "**pong** <b> 1"
    assert answer["content"]["formatted_body"] == "<strong>pong</strong> &lt;b&gt; 1"
    (event,) = there.events()
    assert (event.sender_id, event.sender_name, event.is_group, event.is_mention) == (
        talk.ann.user_id, "ann", False, True,
    )  # fmt: skip
    assert event.platform_message_id == event_id
    read = talk.ann.call(
        "GET", "client/v3/sync", filter='{"room": {"ephemeral": {"types": ["m.receipt"]}, "timeline": {"limit": 1}}}'
    )
    assert talk.bot.user_id in str(read["rooms"]["join"][talk.room]["ephemeral"])


async def test_threads_replies_and_mentions_are_known(there: ChannelHost, talk: Talk) -> None:
    root = talk.ann.say(talk.room, "reply 1 root")
    await talk.ann.got(talk.room, talk.bot.user_id, 1)
    relation = {"rel_type": "m.thread", "event_id": root, "is_falling_back": True, "m.in_reply_to": {"event_id": root}}
    talk.ann.say(talk.room, "reply 1 thread", **{"m.relates_to": relation})
    answer = (await talk.ann.got(talk.room, talk.bot.user_id, 2))[1]
    talk.ann.say(
        talk.room,
        f"> <{talk.bot.user_id}> thread 1\n\nreply 1 quoted",
        **{"m.relates_to": {"m.in_reply_to": {"event_id": answer["event_id"]}}},
    )
    quoted = (await there.heard(3))[2]

    assert there.events()[1].address.thread_id == root
    assert answer["content"]["m.relates_to"]["event_id"] == root
    assert answer["content"]["m.relates_to"]["rel_type"] == "m.thread"
    assert (quoted.text, quoted.quote) == ("reply 1 quoted", f"<{talk.bot.user_id}> thread 1")
    assert quoted.reply_to == answer["event_id"]


@pytest.mark.full
async def test_in_a_group_the_bot_is_meant_by_its_id_by_a_mention_or_by_a_reply_to_it(
    server: Synapse, talk: Talk
) -> None:
    bob = server.person("bob")
    room = talk.ann.room(talk.bot.user_id, bob.user_id, name="Team")
    talk.bot.join(room)
    bob.join(room)
    async with channel_host(talk.data, MATRIX, talk.settings) as there:
        await there.register(room, is_group=True, engage="mention")
        await synced(there)
        talk.ann.say(room, "reply 1 nobody is meant", **{"m.mentions": {}})
        talk.ann.say(room, "reply 1 meant", **{"m.mentions": {"user_ids": [talk.bot.user_id]}})
        (answer,) = await talk.ann.got(room, talk.bot.user_id, 1)
        bob.say(room, f"reply 1 by id {talk.bot.user_id}")
        bob.say(room, "reply 1 replied", **{"m.relates_to": {"m.in_reply_to": {"event_id": answer["event_id"]}}})
        answers = await talk.ann.got(room, talk.bot.user_id, 3)

    assert [event.is_mention for event in there.events()] == [False, True, True, True]
    assert {(event.is_group, event.chat_name) for event in there.events()} == {(True, "Team")}
    assert [answer["content"]["body"] for answer in answers] == [
        "meant 1", f"by id {talk.bot.user_id} 1", "replied 1",
    ]  # fmt: skip


@pytest.mark.full
async def test_edits_deletions_reactions_and_reading_are_handed_over(there: ChannelHost, talk: Talk) -> None:
    event_id = talk.ann.say(talk.room, "reply 1 one")
    new = {"msgtype": "m.text", "body": "reply 1 two"}
    replace = {"rel_type": "m.replace", "event_id": event_id}
    talk.ann.say(talk.room, "* reply 1 two", **{"m.new_content": new, "m.relates_to": replace})
    annotation = {"rel_type": "m.annotation", "event_id": event_id, "key": "👍"}
    reaction = talk.ann.send(talk.room, {"m.relates_to": annotation}, "m.reaction")
    await until(lambda: any(isinstance(each, Reacted) for each in there.incoming), "the reaction is heard")
    talk.ann.call("POST", f"client/v3/rooms/{talk.room}/receipt/m.read/{reaction}", {})
    talk.ann.redact(talk.room, reaction)
    talk.ann.redact(talk.room, event_id)
    await until(lambda: any(isinstance(each, ReadReceipt) for each in there.incoming), "the receipt is heard")
    await until(lambda: any(isinstance(each, Deleted) for each in there.incoming), "the deletion is heard")
    here = Address("matrix", talk.room)

    others = [each for each in there.incoming if isinstance(each, Edited | Deleted | Reacted)]
    assert others == [
        Edited(here, event_id, "reply 1 two", talk.ann.user_id),
        Reacted(here, event_id, "👍", talk.ann.user_id, "ann"),
        Reacted(here, event_id, None, talk.ann.user_id, "ann"),
        Deleted(here, event_id),
    ]


@pytest.mark.full
async def test_the_agent_edits_reacts_and_types(there: ChannelHost, talk: Talk) -> None:
    here = Address("matrix", talk.room)
    message_id = await there.channel.deliver(Outgoing("key", here, "chat", "one"))
    await there.channel.edit(here, message_id, "two", ())
    await there.channel.react(here, message_id, "👀")
    await there.channel.react(here, message_id, "✅")
    await there.channel.typing(here)
    keys = [
        event["content"]["m.relates_to"]["key"]
        for event in talk.ann.timeline(talk.room)
        if event["type"] == "m.reaction" and event["content"]
    ]
    await there.channel.react(here, message_id, None)
    last = [event for event in talk.ann.timeline(talk.room) if event["type"] == "m.room.message"][-1]
    left = [e for e in talk.ann.timeline(talk.room) if e["type"] == "m.reaction" and e["content"]]

    assert last["content"]["m.new_content"]["body"] == "two"
    assert keys == ["✅"]
    assert left == []


@pytest.mark.full
async def test_what_is_delivered_twice_is_there_once(there: ChannelHost, talk: Talk, server: Synapse) -> None:
    here = Address("matrix", talk.room)
    file = talk.data / "list.txt"
    file.write_text("one")
    message = Outgoing("key", here, "chat", "hello", files=(file,))
    first = await there.channel.deliver(message)
    again = await there.channel.deliver(message)

    heard = talk.ann.heard(talk.room, talk.bot.user_id)
    assert first == again
    assert [each["content"]["body"] for each in heard] == ["hello", "list.txt"]
    assert talk.ann.download(heard[1]["content"]["url"]) == b"one"


@pytest.mark.full
async def test_files_of_people_are_fetched_within_their_bounds(there: ChannelHost, talk: Talk, tmp_path: Path) -> None:
    address = talk.ann.upload(b"x" * 1_000, "a.txt")
    talk.ann.send(talk.room, {"msgtype": "m.file", "body": "a.txt", "url": address, "info": {"size": 1_000}})
    (event,) = await there.heard(1)
    (file,) = event.remote_files
    await there.channel.download(file, tmp_path / "a.txt")

    assert (file.name, file.size, event.text) == ("a.txt", 1_000, "")
    assert (tmp_path / "a.txt").read_bytes() == b"x" * 1_000
    there.channel._context = replace(there.context, file_limits=replace(there.context.file_limits, max_bytes=999))
    with pytest.raises(DeliveryRefused, match="more than the 999 bytes"):
        await there.channel.download(file, tmp_path / "b.txt")


async def test_a_reply_to_the_bot_means_it_though_the_server_fails_over_the_question(
    server: Synapse, talk: Talk
) -> None:
    bob = server.person("bob")
    room = talk.ann.room(talk.bot.user_id, bob.user_id, name="Team")
    talk.bot.join(room)
    bob.join(room)
    proxy = FaultyProxy(server.url, rf"GET .*/(event/|profile/{re.escape(talk.ann.user_id)})")
    await proxy.start()
    try:
        async with channel_host(talk.data, MATRIX, talk.settings | {"homeserver": proxy.url}) as there:
            await there.register(room, is_group=True, engage="mention")
            await synced(there)
            ours = await there.channel.deliver(Outgoing("key", Address("matrix", room), "chat", "hello"))
            proxy.troubles += [faulty_proxy.answer(502, {}), faulty_proxy.answer(502, {})]
            reply = {"m.relates_to": {"m.in_reply_to": {"event_id": ours}}, "m.mentions": {}}
            talk.ann.say(room, "reply 1 why", **reply)
            await there.answered(1)
            talk.ann.say(room, "reply 1 and this", **reply)
            events = await there.heard(2)
    finally:
        await proxy.stop()
    assert [event.is_mention for event in events] == [True, True]
    assert events[1].sender_name == "ann", "a name that could not be asked for once is asked for again"


@pytest.mark.full
async def test_the_bot_enters_rooms_that_it_is_invited_to_and_follows_an_upgraded_one(
    there: ChannelHost, talk: Talk
) -> None:
    room = talk.ann.room(talk.bot.user_id, name="Team")
    await until(lambda: any(isinstance(each, Joined) for each in there.incoming), "the invitation is taken")
    other = talk.ann.room(talk.bot.user_id, name="Of others")
    predecessor = {"room_id": room, "event_id": "$the-last-one"}
    after = talk.ann.room(talk.bot.user_id, name="Team 2", creation_content={"predecessor": predecessor})
    await until(lambda: talk.bot.user_id in talk.ann.members(after), "that one too")
    talk.ann.state(room, "m.room.tombstone", {"body": "moved", "replacement_room": other})
    talk.ann.state(room, "m.room.tombstone", {"body": "moved", "replacement_room": after})
    await until(lambda: any(isinstance(each, ChatMoved) for each in there.incoming), "the upgrade is heard")

    assert talk.bot.user_id in talk.ann.members(room)
    joined = next(each for each in there.incoming if isinstance(each, Joined))
    assert joined == Joined(Address("matrix", room), "Team", True, talk.ann.user_id, "ann")
    assert [each for each in there.incoming if isinstance(each, ChatMoved)] == [ChatMoved("matrix", room, after)]


async def test_a_host_that_dies_before_the_token_is_kept_knows_the_message_when_it_comes_again(talk: Talk) -> None:
    async with channel_host(talk.data, MATRIX, talk.settings, chats=[talk.room]) as there:
        await synced(there)
    async with DyingHost(talk.data, "matrix", talk.settings, talk.room) as dying:
        talk.ann.say(talk.room, "reply 1 once")
        await dying.dead()
    async with channel_host(talk.data, MATRIX, talk.settings) as there:
        talk.ann.say(talk.room, "reply 1 then")
        await there.heard(2)
        await there.host.settled()

    said = [each["content"]["body"] for each in talk.ann.heard(talk.room, talk.bot.user_id)]
    assert sorted(said) == ["once 1", "then 1"]


@pytest.mark.full
async def test_all_that_was_said_meanwhile_is_caught_up_in_order(talk: Talk) -> None:
    async with channel_host(talk.data, MATRIX, talk.settings, chats=[talk.room]) as there:
        await synced(there)
    for number in range(130):  # more than one sync brings
        talk.ann.say(talk.room, f"message {number}", msgtype="m.text")
    async with channel_host(talk.data, MATRIX, talk.settings) as there:
        await there.heard(130)

    assert [event.text for event in there.events()] == [f"message {number}" for number in range(130)]


@pytest.mark.full
async def test_a_message_that_cannot_be_kept_comes_again(talk: Talk) -> None:
    full = [True]

    def disk(ingest: Ingest) -> Ingest:
        async def through(event: Incoming) -> Receipt:
            if full[0]:
                raise FileTrouble("the disk is full")
            return await ingest(event)

        return through

    async with channel_host(talk.data, MATRIX, talk.settings, chats=[talk.room], around=disk) as there:
        await synced(there)
        talk.ann.say(talk.room, "reply 1 kept")
        error = await there.served()
        full[0] = False
        await there.close()
        await there.start()
        await talk.ann.got(talk.room, talk.bot.user_id, 1)

    assert isinstance(error, ChannelUnavailable)


@pytest.mark.full
async def test_notices_and_what_makes_no_sense_are_not_answered(there: ChannelHost, talk: Talk) -> None:
    talk.ann.say(talk.room, "reply 1 never", msgtype="m.notice")
    for content in ({"msgtype": "m.odd", "body": "x"}, {"msgtype": "m.file", "body": "x", "url": 1},
                    {"msgtype": "m.text", "body": "x", "m.relates_to": "y"}):  # fmt: skip
        talk.ann.send(talk.room, content)
    talk.ann.say(talk.room, "reply 1 always")

    def answers() -> list[str]:
        return [answer["content"]["body"] for answer in talk.ann.heard(talk.room, talk.bot.user_id)]

    await until(lambda: "always 1" in answers(), "the person is answered", 60)
    assert "never 1" not in answers()


async def test_a_token_that_is_not_taken_is_said_and_told_nowhere(
    there: ChannelHost, talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    identity = await there.channel.check()
    wrong = MATRIX.make(settings_of(MATRIX, "matrix", settings(talk.bot, token="canary-token")), there.context)
    with pytest.raises(ChannelRefused, match="copy its new access token") as caught:
        await wrong.check()
    talk.ann.say(talk.room, "reply 1 pong")
    await talk.ann.got(talk.room, talk.bot.user_id, 1)

    assert (identity.id, identity.name) == (talk.bot.user_id, "bot")
    said = caplog.text + str(caught.value) + repr(there.channel._settings)
    assert talk.bot.token not in said
    assert "canary" not in said


@pytest.mark.full
async def test_without_keys_an_encrypted_room_is_told_once_that_it_cannot_be_read(talk: Talk) -> None:
    async with channel_host(talk.data, MATRIX, talk.settings, chats=[talk.room], has_folder=False) as there:
        await synced(there)
        await _says_that_it_cannot_read(there, talk)


async def _says_that_it_cannot_read(there: ChannelHost, talk: Talk) -> None:
    talk.ann.state(talk.room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    secret = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AAAA", "sender_key": "x", "session_id": "y",
              "device_id": "z"}  # fmt: skip
    for _ in range(2):
        talk.ann.send(talk.room, secret, "m.room.encrypted")
    (told,) = await talk.ann.got(talk.room, talk.bot.user_id, 1)
    await there.channel.deliver(Outgoing("key", Address("matrix", talk.room), "chat", "after"))

    heard = talk.ann.heard(talk.room, talk.bot.user_id)
    assert told["content"]["body"].startswith("This room is encrypted, and I cannot read it.")
    assert [each["content"]["body"] for each in heard][1:] == ["after"]


@pytest.mark.full
async def test_a_direct_room_is_opened_once(there: ChannelHost, talk: Talk) -> None:
    room = await there.channel.open_direct(talk.ann.user_id)
    talk.ann.join(room)
    await until(lambda: there.channel._client.room(room) is not None, "the room is known")

    assert await there.channel.open_direct(talk.ann.user_id) == room
    with pytest.raises(DeliveryRefused):
        await there.channel.deliver(Outgoing("key", Address("matrix", "!none:matrix.test"), "chat", "hello"))


@pytest.mark.full
async def test_an_outage_of_the_server_loses_and_doubles_nothing(
    there: ChannelHost, talk: Talk, server: Synapse
) -> None:
    talk.ann.say(talk.room, "reply 1 before")
    await talk.ann.got(talk.room, talk.bot.user_id, 1)
    await asyncio.to_thread(server.stop)
    try:
        error = await there.served()
    finally:
        await asyncio.to_thread(server.start)
    talk.ann.say(talk.room, "reply 1 after")
    await there.close()
    await there.start()
    answers = await talk.ann.got(talk.room, talk.bot.user_id, 2)

    assert isinstance(error, ChannelUnavailable)
    assert [answer["content"]["body"] for answer in answers] == ["before 1", "after 1"]
