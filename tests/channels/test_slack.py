"""The channel `slack`: the real SDK and a real host against a fake Slack."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host.channels.health import ChannelStatus
from host.channels.protocol import Button, ChannelRefused, ChannelUnavailable, DeliveryRefused, Outgoing
from host.channels.slack import SLACK
from host.channels.slack.text import to_mrkdwn
from host.routing.event import ChatGone, ChatMoved, Clicked, Deleted, Edited, Event, Incoming, Joined, Reacted, Receipt
from shared_schema.errors import FileTrouble
from shared_schema.rows import Address
from tests.channels.open_host import ChannelHost, DyingHost, channel_host
from tests.platforms import slack
from tests.platforms.slack import ANN, APP_TOKEN, BOB, BOT, BOT_TOKEN, CHANNEL, DIRECT, SIGNING_SECRET, FakeSlack, Fault
from tests.support.ledger import refusing
from tests.support.wait import until

HELLO = Outgoing("session/1", Address("slack", DIRECT), "chat", "hello")


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with slack.running() as fake:
        yield fake


def settings(fake: FakeSlack, **more: Any) -> dict[str, Any]:
    return {"token": BOT_TOKEN, "app_token": APP_TOKEN, "base_url": f"{fake.url}/api/"} | more


@asynccontextmanager
async def talking(data: Path, fake: FakeSlack, **more: Any) -> AsyncIterator[ChannelHost]:
    """A host whose agent answers in the direct chat, and in the channel where it is mentioned."""
    given = settings(fake, **{key: more.pop(key) for key in list(more) if key in ("reply_in_thread",)})
    async with channel_host(data, SLACK, given, chats=[DIRECT], **more) as there:
        if len(await there.host.do("messaging_group.list")) < 3:
            await there.register(CHANNEL, is_group=True, engage="mention")
        yield there


async def told(there: ChannelHost, kind: type[Incoming]) -> Any:
    """The next thing of that kind that was handed over."""
    await until(lambda: any(isinstance(each, kind) for each in there.incoming), f"a {kind} is handed over")
    return next(each for each in there.incoming if isinstance(each, kind))


async def test_a_direct_message_is_answered(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        ts = await fake.say("hello &lt;you&gt;")
        await until(lambda: fake.texts() == ["scripted: hello &lt;you&gt;"], "it is answered")

        event = there.events()[0]
        assert (event.text, event.platform_message_id, event.sender_name) == ("hello <you>", ts, "Ann")
        assert event.address == Address("slack", DIRECT, None)
        assert there.context.health.status == ChannelStatus.CONNECTED


async def test_a_mention_in_a_channel_is_answered_once_and_in_its_thread(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("nobody is meant", chat=CHANNEL)
        ts = await fake.say(f"<@{BOT}> what is <https://x.example/a|this>?", chat=CHANNEL, user=BOB)
        await there.heard(2)
        await until(lambda: len(fake.acknowledged) == 3, "the mention came as a message and as a mention")
        await there.host.settled()

        assert [(each["text"], each["thread_ts"]) for each in fake.ours(CHANNEL)] == [
            ("scripted: what is this (https://x.example/a)?", ts)
        ]
        follow_up = await fake.say("and this?", chat=CHANNEL, thread=fake.ours(CHANNEL)[0]["thread_ts"])
        event = (await there.heard(3))[-1]
        assert (event.platform_message_id, event.address.thread_id, event.is_group) == (follow_up, ts, True)


async def test_answers_stand_in_the_channel_where_a_person_wants_that(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake, reply_in_thread=False):
        await fake.say(f"<@{BOT}> hello", chat=CHANNEL)
        await until(lambda: fake.texts(CHANNEL) == ["scripted: hello"], "it is answered")
        assert "thread_ts" not in fake.ours(CHANNEL)[0]


async def test_a_command_is_one_behind_a_mention_and_as_a_slash_command(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say(f"<@{BOT}> /status", chat=CHANNEL)
        await fake.command("/dw", "new")
        await until(lambda: fake.texts(CHANNEL) and fake.texts(), "both commands are answered")
        assert {each.text for each in there.events()} == {"/status", "/new"}
        assert all(not text.startswith("scripted") for text in fake.texts() + fake.texts(CHANNEL))


async def test_an_envelope_is_acknowledged_when_it_is_on_the_disk_and_not_before(
    tmp_path: Path, fake: FakeSlack
) -> None:
    full = [True]
    seen: list[bool] = []

    async def ingest(event: Incoming) -> Receipt:
        seen.append(bool(fake.acknowledged))
        if full[0]:
            raise FileTrouble("the disk is full")
        return Receipt(())

    async with channel_host(tmp_path, SLACK, settings(fake), is_started=False) as there:
        there.around = lambda _: ingest
        await there.start()
        await fake.say("hello")
        await until(lambda: bool(seen), "it was offered")
        full[0] = False
        await fake.send_again()
        await until(lambda: len(fake.acknowledged) == 1, "it is acknowledged now")
        assert not any(seen)


async def test_a_host_that_dies_before_the_acknowledgement_answers_once(tmp_path: Path, fake: FakeSlack) -> None:
    async with DyingHost(tmp_path, "slack", settings(fake), DIRECT) as dying:
        await fake.say("hello")
        await dying.dead()
    assert not fake.acknowledged
    async with talking(tmp_path, fake) as there:
        await until(lambda: bool(fake.sockets), "the next one is connected")
        await fake.send_again()
        await there.answered(1)
        await until(lambda: len(fake.acknowledged) == 1, "it is acknowledged")
        await there.host.settled()

    assert fake.texts() == ["scripted: hello"]


async def test_what_comes_twice_is_answered_once(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("hello")
        await there.answered(1)
        for envelope_id in list(fake.envelopes):
            fake.acknowledged.clear()
            await fake.send_twice(envelope_id)
        await until(lambda: bool(fake.acknowledged), "it is acknowledged again")
        await there.host.settled()
        assert fake.texts() == ["scripted: hello"]


async def test_files_go_both_ways(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("look", files={"a.txt": b"some text"})
        event = (await there.heard(1))[0]
        [file] = event.remote_files
        await there.channel.download(file, tmp_path / "got")
        assert (file.name, file.size, (tmp_path / "got").read_bytes()) == ("a.txt", 9, b"some text")

        (tmp_path / "b.txt").write_bytes(b"an answer")
        message = replace(HELLO, text="", files=(tmp_path / "b.txt",))
        ts = await there.channel.deliver(message)
        assert await there.channel.deliver(message) == ts
        named, shared = fake.ours()[-2:]
        assert named["text"] == "b.txt"
        assert [fake.files[each["id"]]["data"] for each in shared["files"]] == [b"an answer"]


async def test_a_file_is_never_larger_than_allowed_and_never_fetched_elsewhere(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake, max_file_bytes=10) as there:
        await fake.say("look", files={"a.txt": b"x" * 11})
        [file] = (await there.heard(1))[0].remote_files
        with pytest.raises(DeliveryRefused, match="more than the 10 bytes"):
            await there.channel.download(file, tmp_path / "large")
        fake.redirect = "http://127.0.0.2:1/files"
        with pytest.raises(DeliveryRefused, match="does not lie at Slack"):
            await there.channel.download(file, tmp_path / "elsewhere")
        fake.redirect, fake.scopes = None, "chat:write"
        with pytest.raises(ChannelRefused, match="files:read"):
            await there.channel.download(file, tmp_path / "login")


async def test_what_people_do_with_messages_is_handed_over(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        ts = await fake.say("hello")
        await fake.edit(DIRECT, ts, "hello again")
        await fake.react(DIRECT, ts, "thumbsup")
        await fake.delete(DIRECT, ts)
        await fake.send_event({"type": "member_joined_channel", "user": BOT, "channel": CHANNEL, "inviter": ANN})
        await fake.send_event({"type": "channel_left", "channel": CHANNEL})
        await fake.send_event({"type": "channel_id_changed", "old_channel_id": "C1", "new_channel_id": "C2"})

        here = Address("slack", DIRECT)
        assert await told(there, Edited) == Edited(here, ts, "hello again", ANN)
        assert await told(there, Reacted) == Reacted(here, ts, "👍", ANN)
        assert await told(there, Deleted) == Deleted(here, ts)
        assert await told(there, Joined) == Joined(Address("slack", CHANNEL), sender_id=ANN)
        assert (await told(there, ChatGone)).reason == "the bot was removed from the channel"
        assert await told(there, ChatMoved) == ChatMoved("slack", "C1", "C2")


async def test_what_apps_write_and_previews_of_links_are_left_alone(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("I am an app", bot_id="B7")
        ts = await fake.say("see https://x.example")
        await there.heard(1)
        await fake.edit(DIRECT, ts, "see https://x.example")
        await fake.say("the last one")
        await there.heard(2)
        assert [type(each) for each in there.incoming] == [Event, Event]


async def test_buttons_come_back_as_clicks_and_go_with_an_edit(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        ts = await there.channel.deliver(replace(HELLO, text="Shall it?", buttons=(Button("Yes", "q1/yes"),)))
        envelope = await fake.click(DIRECT, ts, "Yes")
        clicked = await told(there, Clicked)
        assert (clicked.platform_message_id, clicked.value, clicked.sender_id) == (ts, "q1/yes", ANN)
        await fake.send_twice(envelope)
        await until(lambda: sum(isinstance(each, Clicked) for each in there.incoming) == 2, "it comes again")
        assert there.incoming[-1].click_id == clicked.click_id  # type: ignore[union-attr]

        await there.channel.edit(Address("slack", DIRECT), ts, "Ann said yes.", ())
        assert (fake.message(DIRECT, ts)["text"], fake.message(DIRECT, ts)["blocks"]) == ("Ann said yes.", [])


async def test_reactions_of_ours_come_and_go(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        ts, here = await fake.say("hello"), Address("slack", DIRECT)
        for _ in range(2):
            await there.channel.react(here, ts, "👀")
        assert [each["name"] for each in fake.message(DIRECT, ts)["reactions"]] == ["eyes"]
        await there.channel.react(here, ts, None)
        assert fake.message(DIRECT, ts)["reactions"] == []
        with pytest.raises(DeliveryRefused, match="no reaction"):
            await there.channel.react(here, ts, "🫠")


async def test_a_status_shows_in_threads_that_we_work(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await there.channel.typing(Address("slack", DIRECT))
        await there.channel.typing(Address("slack", CHANNEL, "1.2"))
        fake.refuses["assistant.threads.setStatus"] = "channel_not_found"
        await there.channel.typing(Address("slack", CHANNEL, "1.2"))
        assert [each[:2] for each in fake.statuses] == [(CHANNEL, "1.2")]


async def test_people_and_chats_have_names_and_a_direct_chat_is_opened(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        assert await there.channel.person_name(BOB) == "Bob"
        assert await there.channel.chat_name(CHANNEL) == "#general"
        assert await there.channel.open_direct(ANN) == DIRECT
        with pytest.raises(DeliveryRefused, match="no such person"):
            await there.channel.open_direct("U404")


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.NOT_JSON, Fault.NO_OBJECT, Fault.DROP_BEFORE, Fault.DROP_AFTER])
async def test_a_message_is_there_once_whatever_becomes_of_the_call(
    tmp_path: Path, fake: FakeSlack, fault: Fault
) -> None:
    async with talking(tmp_path, fake) as there:
        fake.faults["chat.postMessage"].append(fault)
        with pytest.raises(ChannelUnavailable):
            await there.channel.deliver(HELLO)
        ts = await there.channel.deliver(HELLO)
        assert fake.texts() == ["hello"]
        assert ts == fake.ours()[0]["ts"]


async def test_a_message_that_a_killed_host_has_sent_is_not_sent_again(tmp_path: Path, fake: FakeSlack) -> None:
    async with channel_host(tmp_path, SLACK, settings(fake), chats=[DIRECT]) as there:
        first = await there.channel.deliver(HELLO)
    # What Slack has never sent, so far; our own message stands among it.
    odd = {"ts": fake.ours()[0]["ts"], "user": ["U1"], "bot_id": {"id": "B1"}, "text": 1, "metadata": []}
    fake.messages[HELLO.address.platform_id].append(odd)
    async with channel_host(tmp_path, SLACK, settings(fake), is_started=False) as there:
        await there.context.state.set("ended_cleanly", "no")
        await there.start()
        assert await there.channel.deliver(HELLO) == first
        assert await there.channel.deliver(replace(HELLO, key="session/2", text="another")) is not None
    assert fake.texts() == ["hello", "another"]


async def test_too_fast_says_when_to_try_again(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        fake.faults["chat.postMessage"].append(Fault.TOO_FAST)
        with pytest.raises(ChannelUnavailable) as caught:
            await there.channel.deliver(HELLO)
        assert caught.value.retry_after == 1.0


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("channel_not_found", DeliveryRefused, "not in it"),
        ("is_archived", DeliveryRefused, "archived"),
        ("missing_scope", ChannelRefused, "lacks the scope some:scope"),
        ("token_revoked", ChannelRefused, "revoked"),
        ("internal_error", ChannelUnavailable, "internal_error"),
    ],
)
async def test_what_slack_refuses_is_said_in_a_sentence(
    tmp_path: Path, fake: FakeSlack, code: str, error: type[Exception], words: str
) -> None:
    async with talking(tmp_path, fake) as there:
        fake.refuses["chat.postMessage"] = code
        with pytest.raises(error, match=words):
            await there.channel.deliver(HELLO)


async def test_a_lost_socket_ends_serving(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.drop_sockets()
        assert isinstance(await there.served(), ChannelUnavailable)


async def test_a_socket_that_is_announced_to_end_is_replaced_before(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.to_sockets('{"type": "disconnect", "reason": "refresh_requested"}')
        await until(lambda: len(fake.sockets) == 2, "there is a second socket beside the first")
        await fake.sockets[0].close()
        await fake.say("hello")
        await there.answered(1)
        assert there.context.health.reconnects == 0


async def test_socket_mode_that_is_switched_off_is_said(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.to_sockets('{"type": "disconnect", "reason": "link_disabled"}')
        error = await there.served()
        assert isinstance(error, ChannelRefused)
        assert "Socket Mode was switched off" in str(error)


async def test_tokens_that_are_revoked_in_mid_run_are_said(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.send_event({"type": "tokens_revoked", "tokens": {"bot": [BOT]}})
        assert isinstance(await there.served(), ChannelRefused)


async def test_frames_that_make_no_sense_disturb_nothing(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        nonsense = ('{"type": 3, "payload": [1]}', '{"type":"events_api","payload":{"event":1}}')
        for text in ("{", "[" * 50_000, "7", *nonsense):
            await fake.to_sockets(text)
        envelope = await fake.send_event({"type": "message", "user": ANN, "text": "no channel", "ts": "1.1"})
        await until(lambda: envelope in fake.acknowledged, "what will never be better is not asked for again")
        await fake.say("hello")
        await there.answered(1)


async def test_what_was_written_during_an_outage_is_caught_up_once(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        root = await fake.say(f"<@{BOT}> first", chat=CHANNEL)
        await there.answered(1)
        await there.close()
        await fake.say("while you were away")
        await fake.say(f"<@{BOT}> in the thread", chat=CHANNEL, thread=root)
        await there.start()
        await there.answered(3)
        await there.host.settled()

    assert fake.texts() == ["scripted: while you were away"]
    assert fake.texts(CHANNEL) == ["scripted: first", "scripted: in the thread"]


async def test_what_could_not_be_kept_is_caught_up_though_the_connection_goes_on(
    tmp_path: Path, fake: FakeSlack, caplog: pytest.LogCaptureFixture
) -> None:
    async with talking(tmp_path, fake) as there:
        await fake.say("hello")
        await there.answered(1)
        with refusing(there.host.services.settings.layout.central, "INSERT ON ingest"):
            await fake.say("while the disk is full")
            await until(lambda: "could not be kept" in caplog.text, "it cannot be kept")
        await there.answered(2)  # and Slack sends it no second time
        await fake.say("and now?")
        await there.answered(3)
        await there.host.settled()
    assert fake.texts() == ["scripted: hello", "scripted: while the disk is full", "scripted: and now?"]


async def test_an_outage_of_the_web_api_delays_an_answer_and_loses_none(tmp_path: Path, fake: FakeSlack) -> None:
    async with talking(tmp_path, fake) as there:
        fake.faults["chat.postMessage"].extend([Fault.BROKEN, Fault.DROP_AFTER, Fault.TOO_FAST])
        for number in range(3):
            await fake.say(f"message {number}")
        await there.answered(3)
    assert fake.texts() == [f"scripted: message {number}" for number in range(3)]


async def test_check_says_who_we_are_and_names_what_is_missing(tmp_path: Path, fake: FakeSlack) -> None:
    async with channel_host(tmp_path, SLACK, settings(fake), is_started=False) as there:
        well = await there.channel.check()
        fake.scopes = "chat:write,im:history"
        fake.app_token = "xapp-another"
        identity = await there.channel.check()

    assert (well.id, well.name, well.missing) == (BOT, "dumbwaiter", ())
    scopes, app_token = identity.missing
    assert "files:read" in scopes
    assert "chat:write," not in scopes
    assert "the app-level token does not open a socket" in app_token
    assert "connections:write" in app_token


async def test_a_refused_token_is_said_at_the_start(tmp_path: Path, fake: FakeSlack) -> None:
    fake.token = "xoxb-another"
    async with channel_host(tmp_path, SLACK, settings(fake), is_started=False) as there:
        with pytest.raises(ChannelRefused, match="the token is refused"):
            await there.start()


async def test_a_socket_that_does_not_open_is_said_at_the_start(tmp_path: Path, fake: FakeSlack) -> None:
    fake.is_open = False
    async with channel_host(tmp_path, SLACK, settings(fake), is_started=False) as there:
        with pytest.raises(ChannelUnavailable, match="cannot be opened"):
            await there.start()
        fake.is_open = True
        await there.start()


async def test_no_token_is_in_a_log_or_an_error(
    tmp_path: Path, fake: FakeSlack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[BaseException] = []
    async with talking(tmp_path, fake) as there:
        (tmp_path / "b.txt").write_bytes(b"x")
        for fault in Fault:
            if fault not in (Fault.HANGS, Fault.SLOW):
                fake.faults["chat.postMessage"].append(fault)
                fake.faults["files.info"].append(fault)
                message = replace(HELLO, key=f"s/{fault}", files=(tmp_path / "b.txt",))
                for call in (there.channel.deliver(message), there.channel.chat_name("C404")):
                    try:
                        await call
                    except Exception as error:  # each of them is what the test is about
                        errors.append(error)
        fake.is_open = False
        await fake.drop_sockets()
        errors.append(await there.served() or AssertionError("the socket is gone"))
        fake.revoked = "token_revoked"
        with pytest.raises(ChannelRefused) as caught:
            await there.channel.start(there.channel._receiver._ingest)
        errors.append(caught.value)

    assert len(errors) > 8
    chain = [str(each) for error in errors for each in (error, error.__cause__, error.__context__)]
    assert "canary" not in "\n".join([caplog.text, *chain])


def test_markdown_becomes_what_slack_shows() -> None:
    written = to_mrkdwn(
        "# A *title*\n\n**bold** _it_ ~~gone~~ `a<b` [label](https://x.example/?a=1&b=2)\n\n> said\n\n"
        "1. one\n2. two\n\n```py\nif a < b & c:\n```"
    )
    assert written == (
        "*A _title_*\n\n*bold* _it_ ~gone~ `a&lt;b` <https://x.example/?a=1&amp;b=2|label>\n\n> said\n\n"
        "1. one\n2. two\n\n```\nif a &lt; b &amp; c:\n```"
    )


@pytest.mark.parametrize("text", ["<!channel>", "[x](<!here>)", "`<!everyone>`", "```\n<!channel>\n```", "<#C1>"])
def test_an_agent_cannot_ring_for_everybody(text: str) -> None:
    assert not re.search("<[!#]", to_mrkdwn(text))
    assert to_mrkdwn("<@U0123ABC> look") == "<@U0123ABC> look"


def test_settings_that_cannot_be_are_said_without_the_token(fake: FakeSlack) -> None:
    for wrong in ({"token": "xapp-canary"}, {"app_token": "xoxb-canary"}, {"app_token": None}, {"listen": "nowhere"},
                  {"signing_secret": SIGNING_SECRET}):  # fmt: skip
        with pytest.raises(ValueError, match=r"begins with|set `app_token`|host:port") as caught:
            SLACK.settings(type="slack", **settings(fake, **wrong))
        assert "canary" not in str(caught.value)


DRAFT = Outgoing(
    "session/draft", Address("slack", CHANNEL, "1700000000.000001"), "chat", "It grows", is_draft=True, for_user=ANN
)


@pytest.mark.parametrize("offers", [True, False], ids=["streams", "edits"])
async def test_an_answer_grows_as_a_stream_where_there_are_some_and_by_edits_elsewhere(
    tmp_path: Path, fake: FakeSlack, offers: bool
) -> None:
    fake.offers_streams = offers
    async with talking(tmp_path, fake) as there:
        ts = await there.channel.deliver(DRAFT)
        assert ts is not None
        await there.channel.edit(DRAFT.address, ts, "It grows and grows", ())
        (shown,) = fake.ours(CHANNEL)
        assert shown["text"] == "It grows and grows"
        await there.channel.edit(DRAFT.address, ts, "It has another beginning", ())
        await there.channel.edit(DRAFT.address, ts, "It has another beginning now", ())
        whole = replace(DRAFT, key="session/9", text="**Whole**", is_draft=False, draft_id=ts, for_user=None)
        assert await there.channel.deliver(whole) == ts
        (shown,) = fake.ours(CHANNEL)
        assert shown["text"] == "*Whole*"
        assert fake.streaming == set()
    assert ("chat.appendStream" in {method for method, _ in fake.calls}) is offers
    # Where Slack offers none at all, it is not asked for again and again.
    assert sum(method == "chat.startStream" for method, _ in fake.calls) == 1


async def test_a_stream_that_a_dead_host_has_begun_becomes_the_whole_answer(tmp_path: Path, fake: FakeSlack) -> None:
    fake.offers_streams = True
    async with talking(tmp_path, fake) as there:
        ts = await there.channel.deliver(DRAFT)
    async with talking(tmp_path, fake) as there:
        assert (
            await there.channel.deliver(replace(DRAFT, key="session/9", text="Whole", is_draft=False, draft_id=ts))
            == ts
        )
    (shown,) = fake.ours(CHANNEL)
    assert (shown["text"], fake.streaming) == ("Whole", set())
