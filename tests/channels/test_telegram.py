"""Telegram: the real SDK against the fake Bot API, through a real host."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from host.channels.build import settings_of
from host.channels.health import ChannelStatus, Health
from host.channels.protocol import Button, ChannelRefused, ChannelUnavailable, Context, DeliveryRefused, Outgoing
from host.channels.telegram import TYPE
from host.channels.telegram.channel import TelegramChannel
from host.routing.event import ChatGone, ChatMoved, Event, Incoming, Receipt, RemoteFile
from host.sessions.attachments import FileLimits
from shared_schema.clock import SystemClock
from shared_schema.rows import Address
from tests.channels.contract import MemoryState
from tests.channels.open_host import DyingHost
from tests.platforms import telegram
from tests.platforms.telegram import GROUP, SUPERGROUP, TOKEN, Refusal, TelegramServer, telegram_server
from tests.support.host import AGENT, Host, rows, running
from tests.support.wait import until

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20
HERE = Address("telegram", "1001")


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with telegram_server() as server:
        server.chat(1001)
        server.chat(GROUP)
        yield server


def settings(server: TelegramServer, **more: Any) -> dict[str, Any]:
    quick = {"poll_seconds": 3.0, "probe_seconds": 1.0, "timeout_seconds": 5.0, "album_seconds": 0.3}
    return {"token": server.token, "api_url": server.url, **quick, **more}


class Bot:
    """A channel by itself, and what it has handed over."""

    def __init__(self, server: TelegramServer, folder: Path, **more: Any) -> None:
        clock = SystemClock()
        self.context = Context(
            "telegram", clock, MemoryState(), Health(clock), folder, FileLimits(20, 30 * 1024**2, 60 * 1024**2)
        )
        channel = TYPE.make(settings_of(TYPE, "telegram", settings(server, **more)), self.context)
        assert isinstance(channel, TelegramChannel)
        self.channel = channel
        self.heard: list[Incoming] = []

    async def ingest(self, incoming: Incoming) -> Receipt:
        self.heard.append(incoming)
        return Receipt(())

    def told(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.heard if isinstance(each, kind)]


@asynccontextmanager
async def connected(server: TelegramServer, folder: Path, **more: Any) -> AsyncIterator[Bot]:
    bot = Bot(server, folder, **more)
    await bot.channel.start(bot.ingest)
    try:
        yield bot
    finally:
        await bot.channel.close()


@asynccontextmanager
async def host_on(server: TelegramServer, data: Path, *chats: str, **more: Any) -> AsyncIterator[Host]:
    """A host with this bot; the chats are wired to its agent the first time."""
    async with running(data, channels={"telegram": settings(server, **more)}) as host:
        known = {row["address"] for row in await host.do("messaging_group.list")}
        for chat in chats:
            if (address := f"telegram:{chat}") not in known:
                await host.do(
                    "messaging_group.add", address=address, is_group=chat.startswith("-"), unknown_sender="public"
                )
                await host.do("wiring.add", messaging_group=address, agent_group=AGENT, engage="all")
        yield host


def state(host: Host) -> str:
    """How the host says the channel is."""
    return str(next(each["state"] for each in host.services.running.states() if each["name"] == "telegram"))


def out(text: str, key: str = "k", address: Address = HERE, **more: Any) -> Outgoing:
    return Outgoing(key=key, address=address, kind="chat", text=text, **more)


# --- through a host ---


async def test_a_message_is_answered_in_its_chat(server: TelegramServer, tmp_path: Path) -> None:
    async with host_on(server, tmp_path, "1001"):
        server.say("hello")
        (answer,) = await server.wait_for(1)
        assert (answer["text"], answer["chat"]["id"]) == ("scripted: hello", 1001)
        await server.until(lambda: not server.pending)
    assert server.breaches == []


async def test_what_was_written_while_the_host_was_away_is_answered_once(
    server: TelegramServer, tmp_path: Path
) -> None:
    async with host_on(server, tmp_path, "1001"):
        server.say("one")
        await server.wait_for(1)
    server.say("two")
    async with host_on(server, tmp_path, "1001") as host:
        await server.wait_for(2)
        await host.settled()
    assert [message["text"] for message in server.sent] == ["scripted: one", "scripted: two"]


async def test_an_update_that_comes_again_after_a_kill_is_answered_once(server: TelegramServer, tmp_path: Path) -> None:
    """Killed between `ingest` and the confirmation, Telegram gives everything again that was not confirmed."""
    async with host_on(server, tmp_path, "1001"):
        server.say("once")
        server.say(None, photo=[server.file(PNG)], media_group_id="9", caption="album")
        server.say(None, photo=[server.file(PNG)], media_group_id="9")
        again = list(server.pending)
        await server.wait_for(2)
        await server.until(lambda: not server.pending)
    server.pending = again
    async with host_on(server, tmp_path, "1001") as host:
        server.say("after")
        await server.wait_for(3)
        await server.until(lambda: not server.pending)
        await host.settled()
        rows = await host.central("SELECT platform_message_id FROM ingest ORDER BY position")
    first, _, last = [message.get("text") for message in server.sent]
    assert (first, last) == ("scripted: once", "scripted: after")
    assert len(rows) == 3


async def test_a_host_that_dies_before_it_confirms_an_update_answers_it_once(
    server: TelegramServer, tmp_path: Path
) -> None:
    async with DyingHost(tmp_path / "data", "telegram", settings(server), "1001") as dying:
        server.say("once")
        await dying.dead()
    assert len(server.pending) == 1, "Telegram was told nothing yet"
    async with host_on(server, tmp_path / "data") as host:
        server.say("then")
        await server.wait_for(2)
        await server.until(lambda: not server.pending)
        await host.settled()
    assert [message["text"] for message in server.sent] == ["scripted: once", "scripted: then"]


async def test_a_chat_is_registered_before_its_channel_is_connected(server: TelegramServer, tmp_path: Path) -> None:
    """Telegram may be away, and the host may have been started a moment ago."""
    await server.stop()
    async with host_on(server, tmp_path, "1001") as host:
        assert state(host) != "connected"
        assert "telegram:1001" in [row["address"] for row in await host.do("messaging_group.list")]


async def test_files_of_a_person_reach_the_agent(server: TelegramServer, tmp_path: Path) -> None:
    """What cannot be fetched is said instead; the message is answered all the same."""
    async with host_on(server, tmp_path, "1001") as host:
        server.say(None, document=server.file(b"milk, eggs", file_name="list.txt"), caption="buy this")
        server.say("and this", document={"file_id": "unknown", "file_unique_id": "u", "file_name": "other.txt"})
        await server.wait_for(2)
        session = await host.session()
        first, second = rows(session.inbound, "SELECT id, content FROM messages_in WHERE kind = 'chat' ORDER BY seq")
        content = json.loads(first["content"])
        assert content["text"] == "buy this"
        assert (session.inbox / first["id"] / "list.txt").read_bytes() == b"milk, eggs"
        assert [file["name"] for file in content["files"]] == ["list.txt"]
        other = json.loads(second["content"])
        assert other["text"].startswith("and this\n[the file other.txt is not here: Telegram refuses it")
        assert "files" not in other
        assert list((tmp_path / "downloads" / "telegram").iterdir()) == []


async def test_files_of_a_stranger_are_not_fetched(server: TelegramServer, tmp_path: Path) -> None:
    async with host_on(server, tmp_path):
        server.say("look", chat=2002, document=server.file(b"x", file_name="x.txt"))
        await server.until(lambda: server.confirmed == 1)
    assert server.calls_of("getFile") == []


async def test_a_group_that_becomes_a_supergroup_keeps_its_conversation(server: TelegramServer, tmp_path: Path) -> None:
    server.chat(SUPERGROUP)
    async with host_on(server, tmp_path, str(GROUP)) as host:
        server.say("before", chat=GROUP)
        await server.wait_for(1)
        server.moved[GROUP] = SUPERGROUP
        server.say(None, chat=GROUP, migrate_to_chat_id=SUPERGROUP)
        server.say(None, chat=SUPERGROUP, migrate_from_chat_id=GROUP)
        await server.until(lambda: server.confirmed == 3)
        server.say("after", chat=SUPERGROUP)
        await server.wait_for(2)
        (session,) = await host.do("session.list")
        assert session["messaging_group"] == f"telegram:{SUPERGROUP}"
    assert [message["chat"]["id"] for message in server.sent] == [GROUP, SUPERGROUP]


async def test_an_outage_loses_and_doubles_nothing(server: TelegramServer, tmp_path: Path) -> None:
    async with host_on(server, tmp_path, "1001") as host:
        server.say("before")
        await server.wait_for(1)
        await server.stop()
        server.say("meanwhile")
        await until(lambda: state(host) != "connected", "the loss is noticed", 60)
        await server.start()
        host.services.running.try_again("telegram")
        await server.wait_for(2, 60)
        await host.settled()
    assert [message["text"] for message in server.sent] == ["scripted: before", "scripted: meanwhile"]


@pytest.mark.parametrize(
    ("busy", "quiet"), [(8, 150), pytest.param(50, 950, marks=pytest.mark.full, id="a thousand, fifty of them busy")]
)
async def test_many_chats_some_of_them_busy_lose_nothing(
    server: TelegramServer, tmp_path: Path, busy: int, quiet: int
) -> None:
    """One more chat floods meanwhile. What Telegram allows is kept: a second of waiting, and no refusal."""
    patient = {"timeout_seconds": 60.0, "probe_seconds": 60.0}  # fifty agents start meanwhile
    async with host_on(server, tmp_path, *[str(number) for number in range(5000, 5000 + busy)], **patient) as host:
        for number in range(6000, 6000 + quiet):
            server.chat(number)
        for number in range(5000, 5000 + busy):
            server.say(f"hello from {number}", chat=number)
            for more in range(2):
                server.say(f"flood {number}, {more}", chat=4999)  # at the same moment, and again and again
        for number in range(6000, 6000 + quiet):  # chats that are wired to nobody
            server.say("hello", chat=number)
        await until(lambda: server.confirmed >= 3 * busy + quiet, "all are confirmed", 300)
        await until(
            lambda: len({m["chat"]["id"] for m in server.sent if 5000 <= m["chat"]["id"] < 5000 + busy}) == busy,
            "all of them are answered",
            300,
        )
        await host.settled()
    answered = sorted(m["text"] for m in server.sent if 5000 <= m["chat"]["id"] < 5000 + busy)
    assert answered == [f"scripted: hello from {number}" for number in range(5000, 5000 + busy)]
    assert server.breaches == []


async def test_a_token_is_in_no_line_of_a_log_and_no_state(
    server: TelegramServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "markdown_it")
    async with host_on(server, tmp_path, "1001") as host:
        server.say("hello")
        await server.wait_for(1)
        server.send_faults.extend([telegram.drop_before, telegram.garbage, telegram.status(500)])
        for number in range(3):
            server.say(f"again {number}")
        await until(lambda: not server.send_faults, "the faults are over", 60)
        for fault in (telegram.garbage, telegram.drop_before):
            server.faults["getUpdates"].append(fault)
            await until(lambda: state(host) == "unavailable", "it is noticed", 60)
            host.services.running.try_again("telegram")
            await until(lambda: state(host) == "connected", "it is connected again", 60)
        states = str(host.services.running.states())
        server.revoked = True
        await until(lambda: state(host) == "refused", "it is refused", 60)
        states += str(host.services.running.states())
    said = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert len(said) > 100
    assert TOKEN.split(":")[1] not in said
    assert TOKEN.split(":")[1] not in states


# --- what goes out ---


async def test_formatting_is_shown(server: TelegramServer, tmp_path: Path) -> None:
    async with connected(server, tmp_path) as bot:
        await bot.channel.deliver(out("**soup** < `stew`\n\n| a | b |\n|---|---|\n| 1 | 2 |"))
    (message,) = server.sent
    assert message["html"] == "<b>soup</b> &lt; <code>stew</code>\n\n<pre>a  b\n─  ─\n1  2</pre>"


async def test_what_telegram_does_not_format_arrives_plain(server: TelegramServer, tmp_path: Path) -> None:
    server.refuses = lambda call: (
        Refusal(400, "Bad Request: can't parse entities: no") if "parse_mode" in call.parameters else None
    )
    async with connected(server, tmp_path) as bot:
        await bot.channel.deliver(out("**soup** < `stew`"))
    assert server.sent[0]["text"] == "soup < stew"


async def test_a_table_that_grows_over_the_limit_arrives_as_it_was_written(
    server: TelegramServer, tmp_path: Path
) -> None:
    text = "| a | b |\n|---|---|\n" + f"| {'x' * 50} | y |\n" + "| x | y |\n" * 380
    assert len(text) <= 4096
    async with connected(server, tmp_path) as bot:
        await bot.channel.deliver(out(text))
    assert server.sent[0]["text"] == text


async def test_a_reply_replies_also_where_its_message_is_gone(server: TelegramServer, tmp_path: Path) -> None:
    question = server.message("what?")
    async with connected(server, tmp_path) as bot:
        await bot.channel.deliver(out("that", reply_to=str(question["message_id"])))
        await bot.channel.deliver(out("and that", "k2", reply_to="999999"))
    assert server.sent[0]["reply_to_message"]["text"] == "what?"
    assert "reply_to_message" not in server.sent[1]


async def test_a_draft_becomes_the_whole_reply_or_a_new_message_where_it_is_gone(
    server: TelegramServer, tmp_path: Path
) -> None:
    async with connected(server, tmp_path) as bot:
        draft = await bot.channel.deliver(out("so", "d"))
        await bot.channel.edit(HERE, str(draft), "so far", ())
        await bot.channel.edit(HERE, str(draft), "so far", ())  # the same once more is no failure
        assert await bot.channel.deliver(out("so far, so good", draft_id=draft)) == draft
        other = await bot.channel.deliver(out("here", "k2", draft_id="999999"))
    assert [message["text"] for message in server.sent] == ["so far, so good", "here"]
    assert other == str(server.sent[1]["message_id"])


async def test_files_go_out_as_pictures_documents_and_albums(server: TelegramServer, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "b.txt").write_bytes(b"text")
    async with connected(server, tmp_path) as bot:
        await bot.channel.deliver(out("**a picture**", "1", files=(tmp_path / "a.png",)))
        await bot.channel.deliver(out("", "2", files=(tmp_path / "broken.png",)))
        await bot.channel.deliver(out("x" * 2000, "3", files=(tmp_path / "a.png", tmp_path / "b.txt")))
    picture, document, text, *album = server.sent
    assert (picture["caption"], picture["uploads"]) == ("a picture", [("a.png", PNG)])
    assert (document["document"]["file_name"], document["uploads"]) == ("broken.png", [("broken.png", b"no picture")])
    assert text["text"] == "x" * 2000
    assert [each["uploads"] for each in album] == [[("a.png", PNG)], [("b.txt", b"text")]]


async def test_a_file_that_telegram_never_takes_is_refused_in_a_sentence(
    server: TelegramServer, tmp_path: Path
) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(51 * 1024**2)
    (tmp_path / "empty.txt").touch()
    async with connected(server, tmp_path) as bot:
        with pytest.raises(DeliveryRefused, match="51 MB, and Telegram takes 50 MB"):
            await bot.channel.deliver(out("", files=(tmp_path / "large.bin",)))
        with pytest.raises(DeliveryRefused, match="takes no empty file"):
            await bot.channel.deliver(out("", files=(tmp_path / "empty.txt",)))
    assert server.sent == []


async def test_what_was_sent_of_a_message_is_not_sent_again(server: TelegramServer, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"text")
    message = out("x" * 2000, files=(tmp_path / "b.txt",))
    async with connected(server, tmp_path) as bot:
        server.faults["sendDocument"].append(telegram.status(503))
        with pytest.raises(ChannelUnavailable):
            await bot.channel.deliver(message)
        await bot.channel.deliver(message)
    assert [len(each.get("text", "")) for each in server.sent] == [2000, 0]


async def test_a_group_that_moves_while_we_write_is_followed(server: TelegramServer, tmp_path: Path) -> None:
    server.moved[GROUP] = SUPERGROUP
    server.chat(SUPERGROUP)
    async with connected(server, tmp_path) as bot:
        await bot.channel.deliver(out("soup", address=Address("telegram", str(GROUP))))
        assert bot.heard == [ChatMoved("telegram", str(GROUP), str(SUPERGROUP))]
    assert server.sent[0]["chat"]["id"] == SUPERGROUP


async def test_a_chat_that_is_gone_is_told_once_and_again_after_it_was_there(
    server: TelegramServer, tmp_path: Path
) -> None:
    async with connected(server, tmp_path) as bot:
        server.blocked.add(1001)
        for _ in range(3):
            with pytest.raises(DeliveryRefused, match="has blocked the bot"):
                await bot.channel.deliver(out("hello"))
        assert len(bot.told(ChatGone)) == 1
        server.blocked.clear()
        server.say("here again")
        await until(lambda: bot.told(Event), "it is heard")
        await bot.channel.deliver(out("welcome"))
        server.blocked.add(1001)
        with pytest.raises(DeliveryRefused):
            await bot.channel.deliver(out("hello", "k2"))
        assert len(bot.told(ChatGone)) == 2


async def test_reactions_that_telegram_lacks_are_refused_or_stand_for_others(
    server: TelegramServer, tmp_path: Path
) -> None:
    message = server.message("soup")
    async with connected(server, tmp_path) as bot:
        await bot.channel.react(HERE, str(message["message_id"]), "✅")
        assert server.reactions == {(1001, message["message_id"]): ["👍"]}
        with pytest.raises(DeliveryRefused, match="no reaction"):
            await bot.channel.react(HERE, str(message["message_id"]), "🥣")


async def test_a_click_is_answered(server: TelegramServer, tmp_path: Path) -> None:
    async with connected(server, tmp_path) as bot:
        await bot.channel.deliver(out("Shall I?", buttons=(Button("Yes", "y:1"),)))
        server.click(server.sent[0], 0, click_id="99")
        await server.until(lambda: server.answered_clicks == ["99"])


async def test_a_topic_is_written_in(server: TelegramServer, tmp_path: Path) -> None:
    server.chat(SUPERGROUP)
    async with connected(server, tmp_path) as bot:
        address = Address("telegram", str(SUPERGROUP), "42")
        await bot.channel.deliver(out("soup", address=address))
        await bot.channel.typing(address)
    assert server.sent[0]["message_thread_id"] == 42
    assert server.calls_of("sendChatAction")[0].parameters["message_thread_id"] == "42"


async def test_nothing_of_what_telegram_says_of_files_is_believed(server: TelegramServer, tmp_path: Path) -> None:
    server.lying_sizes = True
    large = server.file(b"x" * (21 * 1024**2), size=5)
    async with connected(server, tmp_path) as bot:
        with pytest.raises(DeliveryRefused, match="more than the 20971520 bytes"):
            await bot.channel.download(RemoteFile("x", large["file_id"], 5), tmp_path / "x")
        assert not (tmp_path / "x").exists()
        with pytest.raises(DeliveryRefused):
            await bot.channel.download(RemoteFile("x", "unknown", 5), tmp_path / "x")


async def test_an_address_that_is_no_number_is_refused(server: TelegramServer, tmp_path: Path) -> None:
    async with connected(server, tmp_path) as bot:
        with pytest.raises(DeliveryRefused, match="no id of Telegram's"):
            await bot.channel.deliver(out("hi", address=Address("telegram", "ann")))


# --- what is missing ---


async def test_check_says_who_the_bot_is(server: TelegramServer, tmp_path: Path) -> None:
    bot = Bot(server, tmp_path)
    identity = await bot.channel.check()
    assert (identity.id, identity.name, identity.missing) == ("123456789", "@waiter_bot", ())


async def test_check_names_privacy_mode_and_a_webhook_elsewhere(server: TelegramServer, tmp_path: Path) -> None:
    server.me["can_read_all_group_messages"] = False
    server.webhook = {"url": "https://example.org/secret-path"}
    identity = await Bot(server, tmp_path).channel.check()
    privacy, hook = identity.missing
    assert "privacy mode is on" in privacy
    assert "/setprivacy" in privacy
    assert "a webhook is set for this bot, at https://example.org," in hook
    assert "secret-path" not in hook


async def test_a_webhook_elsewhere_is_refused_or_taken_away(server: TelegramServer, tmp_path: Path) -> None:
    server.webhook = {"url": "https://example.org/x"}
    bot = Bot(server, tmp_path)
    with pytest.raises(ChannelRefused, match="a webhook is set") as caught:
        await bot.channel.start(bot.ingest)
    assert "remove_webhook" in str(caught.value.hint)
    await bot.channel.close()
    async with connected(server, tmp_path, remove_webhook=True) as bot:
        server.say("hello")
        await until(lambda: bot.heard, "it hears")
    assert server.webhook == {}


async def test_a_refused_token_says_where_to_get_one(server: TelegramServer, tmp_path: Path) -> None:
    for token in ("1:wrong", "with space", "umläut", ""):
        bot = Bot(server, tmp_path, token=token)
        with pytest.raises(ChannelRefused) as caught:
            await bot.channel.check()
        assert "@BotFather" in str(caught.value.hint)


async def test_a_second_poller_is_named_by_both(server: TelegramServer, tmp_path: Path) -> None:
    first, second = Bot(server, tmp_path), Bot(server, tmp_path)
    await first.channel.start(first.ingest)
    await second.channel.start(second.ingest)
    serving = [asyncio.create_task(bot.channel.serve()) for bot in (first, second)]
    done, _ = await asyncio.wait(serving, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    error = done.pop().exception()
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
    for bot in (first, second):
        await bot.channel.close()
    assert isinstance(error, ChannelUnavailable)
    assert "another program asks for this bot's messages" in error.what
    assert error.hint is not None


async def test_a_long_poll_that_does_not_come_back_is_a_lost_connection(server: TelegramServer, tmp_path: Path) -> None:
    async with connected(server, tmp_path, poll_seconds=1.0, timeout_seconds=1.0, probe_seconds=100.0) as bot:
        server.faults["getUpdates"].append(telegram.hang)
        with pytest.raises(ChannelUnavailable, match="did not hear Telegram any more"):
            async with asyncio.timeout(30):
                await bot.channel.serve()


# --- by a webhook ---


async def test_a_webhook_brings_updates_and_only_telegrams(server: TelegramServer, tmp_path: Path) -> None:
    bot = Bot(server, tmp_path, mode="webhook", webhook_url="http://127.0.0.1:1/hook", webhook_port=0)
    await bot.channel.start(bot.ingest)
    server.webhook["url"] = f"http://127.0.0.1:{bot.channel.webhook_port}/hook"
    server.say("hello")
    await until(lambda: bot.heard, "it came")
    async with aiohttp.ClientSession() as session, session.post(server.webhook["url"], json={}) as answer:
        assert answer.status == 403
    await server.until(lambda: not server.pending)
    await bot.channel.close()
    assert [each.text for each in bot.told(Event)] == ["hello"]


async def test_a_webhook_is_answered_only_after_the_update_is_kept(server: TelegramServer, tmp_path: Path) -> None:
    bot = Bot(server, tmp_path, mode="webhook", webhook_url="http://127.0.0.1:1/hook", webhook_port=0)
    failures = 2

    async def ingest(incoming: Incoming) -> Receipt:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("the disk is full")
        return await bot.ingest(incoming)

    await bot.channel.start(ingest)
    server.webhook["url"] = f"http://127.0.0.1:{bot.channel.webhook_port}/hook"
    server.say("hello")
    await server.until(lambda: not server.pending)
    await bot.channel.close()
    assert [each.text for each in bot.told(Event)] == ["hello"]


async def test_a_webhook_that_was_set_elsewhere_is_noticed(server: TelegramServer, tmp_path: Path) -> None:
    url = "http://127.0.0.1:1/hook"
    async with connected(server, tmp_path, mode="webhook", webhook_url=url, webhook_port=0, probe_seconds=0.2) as bot:
        await until(lambda: bot.context.health.status == ChannelStatus.CONNECTED, "it is connected")
        server.webhook["url"] = "https://example.org"
        with pytest.raises(ChannelUnavailable, match="set elsewhere"):
            async with asyncio.timeout(30):
                await bot.channel.serve()
