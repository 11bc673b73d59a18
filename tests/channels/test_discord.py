"""The channel `discord`: the real SDK and a real host against a fake Discord."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host.channels.discord import DISCORD
from host.channels.discord.client import DiscordClient
from host.channels.discord.receiver import DiscordReceiver
from host.channels.discord.text import from_discord, to_discord
from host.channels.health import ChannelStatus
from host.channels.protocol import Button, ChannelRefused, ChannelUnavailable, DeliveryRefused, Ingest, Outgoing
from host.routing.event import ChatGone, Clicked, Deleted, Edited, Event, Incoming, Joined, Reacted, Receipt
from shared_schema.errors import FileTrouble
from shared_schema.rows import Address
from tests.channels.open_host import ChannelHost, DyingHost, channel_host
from tests.platforms import discord
from tests.platforms.discord import ANN, BOB, BOT, CHANNEL, DIRECT, GUILD, ROLE, TOKEN, FakeDiscord, Fault
from tests.support.wait import until

HELLO = Outgoing("session/1", Address("discord", DIRECT), "chat", "hello")


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with discord.running() as fake:
        yield fake


def settings(fake: FakeDiscord, **more: Any) -> dict[str, Any]:
    return {"token": TOKEN, "base_url": f"{fake.url}/api/v10"} | more


@asynccontextmanager
async def talking(data: Path, fake: FakeDiscord, **more: Any) -> AsyncIterator[ChannelHost]:
    """A host whose agent answers in the direct chat, and in the channel where it is mentioned."""
    async with channel_host(data, DISCORD, settings(fake), chats=[DIRECT], **more) as there:
        if len(await there.host.do("messaging_group.list")) < 3:
            await there.register(CHANNEL, is_group=True, engage="mention")
        yield there


async def told(there: ChannelHost, kind: type[Incoming]) -> Any:
    """The next thing of that kind that was handed over."""
    await until(lambda: any(isinstance(each, kind) for each in there.incoming), f"a {kind} is handed over")
    return next(each for each in there.incoming if isinstance(each, kind))


async def test_a_direct_message_is_answered(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        message_id = await fake.say("hello")
        await until(lambda: fake.texts() == ["scripted: hello"], "it is answered")
        [event] = there.events()
        assert event.address == Address("discord", DIRECT)
        assert (event.text, event.platform_message_id, event.sender_name, event.is_group) == (
            "hello", message_id, "ann", False,
        )  # fmt: skip
        assert there.context.health.status == ChannelStatus.CONNECTED


@pytest.mark.parametrize("mention", [f"<@{BOT}> ", f"<@!{BOT}>, ", f"<@&{ROLE}> "])
async def test_a_mention_in_a_channel_is_answered_there(tmp_path: Path, fake: FakeDiscord, mention: str) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("nobody is meant", chat=CHANNEL)
        more: dict[str, Any] = {"mentions": [{"id": BOT}]} if "&" not in mention else {"mention_roles": [ROLE]}
        await fake.say(f"{mention}hello <:wave:77>", chat=CHANNEL, user=BOB, **more)
        await there.answered(1)
        await there.host.settled()
        [text] = fake.texts(CHANNEL)
        assert text.endswith("hello :wave:")


async def test_a_thread_is_a_conversation_below_its_channel(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        thread = await fake.new_thread()
        await fake.say(f"<@{BOT}> hello", chat=thread)
        await there.answered(1)
        assert there.events()[0].address == Address("discord", CHANNEL, thread)
        assert (fake.texts(thread), fake.texts(CHANNEL)) == (["scripted: hello"], [])


async def test_a_reply_to_the_bot_means_it_and_says_what_it_replies_to(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        ours = await there.channel.deliver(replace(HELLO, address=Address("discord", CHANNEL)))
        await fake.say("why?", chat=CHANNEL, reply_to=ours)
        [event] = await there.heard(1)
        assert (event.is_mention, event.reply_to, event.quote) == (True, ours, "hello")


async def test_slash_commands_are_offered_and_answered_in_time(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        assert {"new", "stop", "help"} <= {each["name"] for each in fake.commands}
        given = await fake.command("new")
        await until(lambda: bool(fake.answers), "Discord is told that it came")
        assert [(each[0], each[1]["type"]) for each in fake.answers] == [(given["id"], 4)]
        assert (await there.heard(1))[0].text == "/new"
        await until(lambda: bool(fake.texts()), "the command is carried out")
        assert not fake.texts()[0].startswith("scripted")
    fake.commands = []
    async with talking(tmp_path, fake):
        assert fake.commands == [], "what has not changed is not set again"


async def test_a_click_is_handed_over_and_answered(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        message_id = await there.channel.deliver(replace(HELLO, buttons=(Button("Yes", "q1/yes"),)))
        given = await fake.click(DIRECT, message_id, "q1/yes")
        clicked = await told(there, Clicked)
        assert (clicked.platform_message_id, clicked.value, clicked.sender_id) == (message_id, "q1/yes", ANN)
        assert clicked.click_id == given["id"]
        await until(lambda: fake.answers == [(given["id"], {"type": 6})], "Discord is told that it came")
        await there.channel.edit(Address("discord", DIRECT), message_id, "Ann said yes.", ())
        assert fake.message(DIRECT, message_id)["components"] == []


async def test_what_people_do_with_messages_is_handed_over(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        message_id, here = await fake.say("hello"), Address("discord", DIRECT)
        await fake.edit(DIRECT, message_id, "hello", preview_only=True)
        await fake.edit(DIRECT, message_id, "hello again")
        await fake.react(DIRECT, message_id, "👍")
        await fake.delete(DIRECT, message_id)
        await fake.dispatch("CHANNEL_DELETE", fake.channels[CHANNEL])

        assert await told(there, Reacted) == Reacted(here, message_id, "👍", ANN)
        assert await told(there, Deleted) == Deleted(here, message_id)
        assert [each for each in there.incoming if isinstance(each, Edited)] == [
            Edited(here, message_id, "hello again", ANN)
        ]
        assert await told(there, ChatGone) == ChatGone(Address("discord", CHANNEL), "the channel is deleted")


async def test_a_server_that_lets_the_bot_in_or_throws_it_out_is_told(tmp_path: Path, fake: FakeDiscord) -> None:
    fake.is_in_guild = False
    async with talking(tmp_path, fake) as there:
        await fake.dispatch("GUILD_CREATE", fake.guild())
        assert (await told(there, Joined)).address == Address("discord", CHANNEL)
        await fake.dispatch("GUILD_DELETE", {"id": GUILD, "unavailable": True})
        await fake.dispatch("GUILD_DELETE", {"id": GUILD})
        assert (await told(there, ChatGone)).address == Address("discord", CHANNEL)
        assert sum(isinstance(each, ChatGone) for each in there.incoming) == 1


async def test_a_dropped_gateway_is_resumed_and_nothing_is_lost(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        fake.drop_sockets()
        await fake.say("in between")
        await there.answered(1)
        assert (fake.resumed, len(fake.identified), there.context.health.reconnects) == (1, 1, 0)
    assert fake.texts() == ["scripted: in between"]


async def test_a_host_that_dies_before_it_has_noted_an_event_answers_once(tmp_path: Path, fake: FakeDiscord) -> None:
    async with DyingHost(tmp_path, "discord", settings(fake), DIRECT) as dying:
        await fake.say("hello")
        await dying.dead()
    async with talking(tmp_path, fake) as there:
        await there.answered(1)
        await there.host.settled()
    assert fake.texts() == ["scripted: hello"]


async def test_what_was_written_during_an_outage_is_caught_up_once(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("first")
        await there.answered(1)
        await there.close()
        thread = await fake.new_thread()
        await fake.say("while you were away")
        await fake.say(f"<@{BOT}> in a thread", chat=thread)
        await there.start()
        await there.answered(3)
        await there.host.settled()
    assert fake.texts() == ["scripted: first", "scripted: while you were away"]
    assert fake.texts(thread) == ["scripted: in a thread"]


async def test_what_cannot_be_kept_is_tried_again(tmp_path: Path, fake: FakeDiscord) -> None:
    tries: list[Incoming] = []

    async def ingest(event: Incoming) -> Receipt:
        tries.append(event)
        if len(tries) == 1:
            raise FileTrouble("the disk is full")
        return Receipt(())

    async with channel_host(tmp_path, DISCORD, settings(fake), is_started=False) as there:
        there.around = lambda _: ingest
        await there.start()
        await fake.say("hello")
        await until(lambda: len(tries) == 2, "it is offered again")


async def test_what_was_not_kept_is_asked_for_again_though_a_later_message_of_another_chat_was(
    tmp_path: Path, fake: FakeDiscord
) -> None:
    async with talking(tmp_path, fake, is_started=False) as there:

        def full_disk(ingest: Ingest) -> Ingest:
            async def take(event: Incoming) -> Receipt:
                if isinstance(event, Event) and event.text == "first":
                    raise FileTrouble("the disk is full")
                return await ingest(event)

            return take

        there.around = full_disk
        await there.start()
        await fake.say("first")
        later = await fake.say("second", chat=CHANNEL)
        await until(lambda: there.channel._receiver.newest == int(later), "the later one is kept")
        await there.close()
        there.around = lambda ingest: ingest
        await there.start()
        await there.answered(1)
    assert fake.texts() == ["scripted: first"]


async def test_a_direct_message_is_tried_again_where_its_chat_cannot_be_noted() -> None:
    noted: list[str] = []
    taken: list[Incoming] = []

    async def know_direct(channel_id: str) -> None:
        noted.append(channel_id)
        if len(noted) == 1:
            raise FileTrouble("the disk is full")

    async def ingest(event: Incoming) -> Receipt:
        taken.append(event)
        return Receipt(())

    receiver = DiscordReceiver("discord", know_direct)
    receiver.start(ingest, DiscordClient("http://127.0.0.1:1", print, print, deaf_seconds=1.0), BOT)
    said = {"id": "9", "channel_id": DIRECT, "author": {"id": ANN}, "content": "hello", "type": 0}
    receiver.received("MESSAGE_CREATE", said)
    await until(lambda: receiver.has_all, "it is taken")
    assert (noted, len(taken), receiver.newest) == ([DIRECT, DIRECT], 1, 9)


async def test_a_message_is_there_once_where_its_nonce_is_forgotten(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        fake.faults.append(Fault.DROP_AFTER)
        with pytest.raises(ChannelUnavailable):
            await there.channel.deliver(HELLO)
        fake.forget_nonces()
        there.channel._sender._unsure[HELLO.key] -= 3600
        assert await there.channel.deliver(HELLO) == fake.ours()[0]["id"]
        assert await there.channel.deliver(replace(HELLO, key="session/2")) is not None
    assert fake.texts() == ["hello", "hello"]


async def test_an_outage_of_the_api_delays_an_answer_and_loses_none(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        fake.faults.extend([Fault.BROKEN, Fault.DROP_AFTER, Fault.TOO_FAST])
        for number in range(3):
            await fake.say(f"message {number}")
        await there.answered(3)
    assert fake.texts() == [f"scripted: message {number}" for number in range(3)]


async def test_more_files_than_a_message_takes_come_in_several(tmp_path: Path, fake: FakeDiscord) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(12)]
    for path in paths:
        path.write_text(path.name)
    async with talking(tmp_path, fake) as there:
        await there.channel.deliver(replace(HELLO, files=tuple(paths)))
        assert [len(each["attachments"]) for each in fake.ours()] == [10, 2]


async def test_a_file_is_never_larger_than_allowed_and_never_fetched_elsewhere(
    tmp_path: Path, fake: FakeDiscord
) -> None:
    async with talking(tmp_path, fake, max_file_bytes=10) as there:
        message_id = await fake.say("look", files={"a.txt": b"x" * 11})
        [file] = (await there.heard(1))[0].remote_files
        with pytest.raises(DeliveryRefused, match="more than the 10 bytes"):
            await there.channel.download(file, tmp_path / "large")
        fake.message(DIRECT, message_id)["attachments"][0]["url"] = "http://127.0.0.2:1/files/1"
        with pytest.raises(DeliveryRefused, match="does not lie at Discord"):
            await there.channel.download(file, tmp_path / "elsewhere")
        for reference in ("", "../..", "1/2/3/4", "x/y/z"):
            with pytest.raises(DeliveryRefused):
                await there.channel.download(replace(file, reference=reference), tmp_path / "nothing")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(403, 50013, "lacks a right"), (403, 50007, "no direct messages"), (404, 10003, "no such channel")],
)
async def test_what_discord_refuses_is_said_in_a_sentence(
    tmp_path: Path, fake: FakeDiscord, status: int, code: int, words: str
) -> None:
    async with talking(tmp_path, fake) as there:
        fake.refuses = (status, code)
        with pytest.raises(DeliveryRefused, match=words):
            await there.channel.deliver(HELLO)
        with pytest.raises(DeliveryRefused, match="no id of Discord"):
            await there.channel.deliver(replace(HELLO, address=Address("discord", "../../users/@me")))


async def test_check_says_who_we_are_and_names_what_is_missing(tmp_path: Path, fake: FakeDiscord) -> None:
    async with channel_host(tmp_path, DISCORD, settings(fake), is_started=False) as there:
        well = await there.channel.check()
        fake.flags, fake.is_in_guild = 0, False
        identity = await there.channel.check()
    assert (well.id, well.name, well.missing) == (BOT, "dumbwaiter", ())
    intent, invitation = identity.missing
    assert "Message Content Intent" in intent
    assert "https://discord.com/oauth2/authorize?client_id=1002" in invitation


async def test_a_missing_intent_is_named_at_the_start(tmp_path: Path, fake: FakeDiscord) -> None:
    fake.flags = 0
    async with channel_host(tmp_path, DISCORD, settings(fake), is_started=False) as there:
        with pytest.raises(ChannelRefused, match="Message Content Intent"):
            await there.start()


@pytest.mark.parametrize(("code", "words"), [(4004, "refuses the token"), (4014, "Message Content Intent")])
async def test_a_gateway_that_lets_us_in_no_more_is_said(
    tmp_path: Path, fake: FakeDiscord, code: int, words: str
) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.close_sockets(code)
        error = await there.served()
        assert isinstance(error, ChannelRefused)
        assert words in str(error)


async def test_a_session_that_is_ended_begins_anew(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        for socket in fake.sockets:
            await socket.send_json({"op": 9, "d": False})
        assert isinstance(await there.served(), ChannelUnavailable)


async def test_what_bots_write_is_left_alone(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("I am a bot", author={"id": BOB, "username": "bob", "bot": True})
        await fake.say("I am a webhook", webhook_id="9")
        await fake.say("hello")
        await there.answered(1)
        assert [each.text for each in there.incoming if isinstance(each, Event)] == ["hello"]


async def test_events_that_make_no_sense_disturb_nothing(tmp_path: Path, fake: FakeDiscord) -> None:
    async with talking(tmp_path, fake) as there:
        for name, data in (
            ("MESSAGE_CREATE", {"content": "no author"}),
            ("MESSAGE_CREATE", {"author": {"id": ANN}, "id": "x", "channel_id": 7}),
            ("GUILD_CREATE", {"id": 3, "channels": "none", "roles": [None]}),
            ("INTERACTION_CREATE", {"type": 3}),
            ("NOBODY_KNOWS", {}),
        ):
            await fake.dispatch(name, data)
        await fake.say("hello")
        await there.answered(1)


async def test_no_token_is_in_a_log_or_an_error(
    tmp_path: Path, fake: FakeDiscord, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    errors: list[BaseException] = []
    async with talking(tmp_path, fake) as there:
        await fake.command("status")
        await until(lambda: bool(fake.answers), "the command is answered")
        await there.host.settled()  # the next call is the test's own
        for fault in (Fault.DROP_BEFORE, Fault.DROP_AFTER):
            fake.faults.append(fault)
            with pytest.raises(ChannelUnavailable) as caught:
                await there.channel.deliver(replace(HELLO, key=f"s/{fault}"))
            errors.append(caught.value)
        fake.token = None
        with pytest.raises(ChannelRefused) as refused:
            await there.channel.chat_name(CHANNEL)
        errors.append(refused.value)
    chain = [str(each) for error in errors for each in (error, error.__cause__, error.__context__)]
    assert "canary" not in "\n".join([caplog.text, *chain])


def test_settings_that_cannot_be_are_said_without_the_token() -> None:
    for token in ("Bot canary-of-a-token-that-is-long", "canary", "canary of a token that is long"):
        with pytest.raises(ValueError, match="no bot token") as caught:
            DISCORD.settings(type="discord", token=token)
        assert "canary" not in str(caught.value)


def test_text_goes_as_it_is_and_tables_as_code() -> None:
    assert to_discord("**bold** a_b_c `x`") == "**bold** a_b_c `x`"
    assert to_discord("| a | b |\n|---|---|\n| 1 | 2 |") == "```\na  b\n─  ─\n1  2\n```"
    assert from_discord(f"<@{BOT}>: /new", BOT) == "/new"
    assert from_discord("<@2002> said <a:dance:1>", BOT) == "<@2002> said :dance:"
