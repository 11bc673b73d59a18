"""What Telegram's updates mean, which of them may be confirmed, and how fast we may write. No network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import Update as SdkUpdate

from host.channels.telegram.client import Client
from host.channels.telegram.events import TelegramBot, translate
from host.channels.telegram.pace import Pace
from host.channels.telegram.receiver import TelegramReceiver
from host.channels.telegram.window import Window
from host.channels.telegram.wire import read_update
from host.routing.event import ChatGone, ChatMoved, Clicked, Edited, Event, Incoming, Joined, Reacted, Receipt
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.rows import Address
from tests.platforms.telegram import ANN, GROUP, ME, SUPERGROUP, TOKEN, TelegramServer
from tests.support.wait import until

US = TelegramBot("telegram", int(str(ME["id"])), "waiter_bot")
OUR_MESSAGE = {
    "message_id": 7, "date": 1, "chat": {"id": GROUP, "type": "group", "title": "Kitchen"},
    "from": {"id": ME["id"], "is_bot": True, "first_name": "Waiter"}, "text": "Dinner is ready",
}  # fmt: skip


def happened(server: TelegramServer) -> list[Incoming]:
    """What all updates of a server mean."""
    return [each for raw in server.pending for each in translate(read_update(raw), US)]


def event(text: str | None = None, **options: Any) -> Event:
    """What one message means."""
    server = TelegramServer()
    server.say(text, **options)
    (found,) = happened(server)
    assert isinstance(found, Event)
    return found


def test_a_message_in_a_direct_chat_is_meant_for_us() -> None:
    found = event("hello")
    assert found.address == Address("telegram", "1001")
    assert (found.text, found.sender_id, found.sender_name) == ("hello", "1001", "Ann")
    assert found.is_mention
    assert found.is_group is False


def test_a_message_with_a_thousand_buttons_is_its_text() -> None:
    server = TelegramServer()
    server.say("press one")
    keyboard = [[{"text": f"button {number}", "callback_data": "x" * 64}] for number in range(1_000)]
    server.pending[0]["message"]["reply_markup"] = {"inline_keyboard": keyboard}
    (found,) = happened(server)
    assert isinstance(found, Event)
    assert found.text == "press one"


@pytest.mark.parametrize(
    ("text", "entities", "more", "is_mention"),
    [
        ("hello", [], {}, False),
        ("@waiter_bot hello", [("mention", 0, 11)], {}, True),
        ("🍲🍲 @Waiter_Bot", [("mention", 5, 11)], {}, True),
        ("@waiter_bots hello", [("mention", 0, 12)], {}, False),
        ("@waiter_bot in code", [("code", 0, 11)], {}, False),
        ("/new@waiter_bot", [("bot_command", 0, 15)], {}, True),
        ("/new@other_bot", [("bot_command", 0, 14)], {}, False),
        ("thanks", [], {"reply_to_message": OUR_MESSAGE}, True),
        ("thanks", [], {"reply_to_message": OUR_MESSAGE | {"from": ANN}}, False),
    ],
)
def test_what_names_the_bot_in_a_group_is_a_mention(
    text: str, entities: list[tuple[str, int, int]], more: dict[str, Any], is_mention: bool
) -> None:
    listed = [{"type": kind, "offset": offset, "length": length} for kind, offset, length in entities]
    assert event(text, chat=GROUP, entities=listed, **more).is_mention is is_mention


def test_a_person_without_a_user_name_is_mentioned_by_an_entity() -> None:
    entities = [{"type": "text_mention", "offset": 0, "length": 6, "user": {"id": ME["id"], "first_name": "Waiter"}}]
    assert event("Waiter, please", chat=GROUP, entities=entities).is_mention


def test_a_command_with_our_name_is_a_command() -> None:
    assert event("/new@waiter_bot please", chat=GROUP).text == "/new please"
    assert event("/new@other_bot please", chat=GROUP).text == "/new@other_bot please"


def test_a_reply_has_what_it_replies_to_and_quotes() -> None:
    found = event("why?", chat=GROUP, reply_to_message=OUR_MESSAGE)
    assert (found.reply_to, found.quote) == ("7", "Dinner is ready")
    part = event("why?", chat=GROUP, reply_to_message=OUR_MESSAGE, quote={"text": "ready", "position": 10})
    assert part.quote == "ready"


def test_a_topic_is_a_thread_and_its_beginning_no_reply() -> None:
    root = OUR_MESSAGE | {"message_id": 42, "forum_topic_created": {"name": "Soups", "icon_color": 1}}
    found = event("hi", chat=SUPERGROUP, message_thread_id=42, is_topic_message=True, reply_to_message=root)
    assert found.address == Address("telegram", str(SUPERGROUP), "42")
    assert found.reply_to is None
    assert not found.is_mention


def test_other_replies_in_a_group_make_no_thread() -> None:
    assert event("hi", chat=SUPERGROUP, message_thread_id=42).address.thread_id is None


def test_files_are_named_and_stay_where_they_are() -> None:
    server = TelegramServer()
    photo = event("look", photo=[server.file(b"s"), server.file(b"large")])
    assert [(file.name, file.reference, file.size) for file in photo.remote_files] == [("photo-101.jpg", "file1", 5)]
    voice = event(voice=server.file(b"v", mime_type="audio/ogg"))
    assert [file.name for file in voice.remote_files] == ["voice-101.ogg"]
    document = event(document=server.file(b"d", file_name="../../x.pdf"), caption="read this")
    assert (document.text, document.remote_files[0].name) == ("read this", "../../x.pdf")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"sticker": {"file_id": "x", "emoji": "🍲"}}, "[sticker 🍲]"),
        ({"location": {"latitude": 52.5, "longitude": 13.4}}, "[location: 52.5, 13.4]"),
        ({"contact": {"phone_number": "+49", "first_name": "Bob"}}, "[contact: Bob, +49]"),
        (
            {"poll": {"question": "When?", "options": [{"text": "now"}, {"text": "later"}]}},
            "[poll: When? (now; later)]",
        ),
        ({"dice": {"emoji": "🎲", "value": 4}}, "[🎲 4]"),
    ],
)
def test_what_is_no_text_is_said_in_words(more: dict[str, Any], text: str) -> None:
    assert event(**more).text == text


def test_what_was_forwarded_says_from_whom() -> None:
    origin = {"type": "user", "date": 1, "sender_user": {"id": 5, "is_bot": False, "first_name": "Bob"}}
    assert event("soup", forward_origin=origin).text == "[forwarded from Bob]\nsoup"


def test_an_anonymous_administrator_is_the_group() -> None:
    found = event("hi", chat=SUPERGROUP, sender_chat={"id": SUPERGROUP, "type": "supergroup", "title": "Kitchen"})
    assert (found.sender_id, found.sender_name) == (str(SUPERGROUP), "Kitchen")


def test_notices_and_our_own_words_are_no_messages() -> None:
    server = TelegramServer()
    server.say(None, chat=GROUP, new_chat_title="Cellar")
    server.say("mine", sender={"id": ME["id"], "is_bot": True, "first_name": "Waiter"})
    assert happened(server) == []


def test_a_group_that_becomes_a_supergroup_has_moved() -> None:
    server = TelegramServer()
    server.say(None, chat=GROUP, migrate_to_chat_id=SUPERGROUP)
    server.say(None, chat=SUPERGROUP, migrate_from_chat_id=GROUP)
    assert happened(server) == [ChatMoved("telegram", str(GROUP), str(SUPERGROUP))] * 2


def test_the_bot_is_added_thrown_out_and_blocked() -> None:
    server = TelegramServer()
    server.member(GROUP, "left", "member")
    server.member(GROUP, "member", "kicked")
    server.member(1001, "member", "kicked")
    server.member(GROUP, "member", "administrator")
    joined, thrown_out, blocked = happened(server)
    assert joined == Joined(Address("telegram", str(GROUP)), "Kitchen", True, "1001", "Ann")
    assert thrown_out == ChatGone(Address("telegram", str(GROUP)), "the bot was removed from this chat")
    assert blocked == ChatGone(Address("telegram", "1001"), "the person has blocked the bot on Telegram")


def test_edits_clicks_and_reactions() -> None:
    server = TelegramServer()
    message = server.message("soup")
    server.edit(message, "stew")
    server.click(message | {"reply_markup": {"inline_keyboard": [[{"text": "Yes", "callback_data": "y:1"}]]}}, 0)
    server.react(message, "👍")
    server.react(message, None)
    address = Address("telegram", "1001")
    assert happened(server) == [
        Edited(address, "101", "stew", "1001"),
        Clicked(address, "101", "y:1", "4711", "1001", "Ann"),
        Reacted(address, "101", "👍", "1001", "Ann"),
        Reacted(address, "101", None, "1001", "Ann"),
    ]


def test_the_fake_says_what_the_sdk_understands() -> None:
    """Each update of the fake is one for the SDK's own models, and nothing of it is unknown to them."""
    server = TelegramServer()
    message = server.say("hello", entities=[{"type": "bold", "offset": 0, "length": 5}])
    server.say(None, photo=[server.file(b"x", width=1, height=1)], media_group_id="1", caption="c")
    server.edit(message, "changed")
    server.click(message | {"reply_markup": {"inline_keyboard": [[{"text": "Y", "callback_data": "y"}]]}}, 0)
    server.react(message, "👍")
    server.member(GROUP, "left", "member")
    server.member(GROUP, "member", "kicked")
    server.say(None, chat=GROUP, migrate_to_chat_id=SUPERGROUP)
    for raw in server.pending:
        update = SdkUpdate.de_json(raw, None)
        (happening,) = [getattr(update, name) for name in raw if name != "update_id"]
        assert happening is not None
        assert not happening.api_kwargs, happening.api_kwargs


@pytest.mark.parametrize(
    "raw",
    [
        None, 5, "x", [], {}, {"update_id": "1"}, {"update_id": True}, {"update_id": -1}, {"update_id": 2**70},
        {"update_id": 1, "message": 5}, {"update_id": 1, "message": {"message_id": 1}},
        {"update_id": 1, "message": {"message_id": "1", "chat": {"id": 1}, "text": "x"}},
        {"update_id": 1, "message": {"message_id": 1, "chat": {"id": 1}, "text": {"a": 1}}},
        {"update_id": 1, "message": {"message_id": 1, "chat": {"id": 1}, "entities": [{"type": "mention"}]}},
        {"update_id": 1, "callback_query": {"id": "", "from": ANN}},
    ],
)  # fmt: skip
def test_an_update_that_cannot_be_read_is_refused_in_a_sentence(raw: object) -> None:
    with pytest.raises(InvalidValue, match="an update of Telegram's cannot be read"):
        read_update(raw)


def test_updates_are_confirmed_up_to_the_first_that_is_not_done() -> None:
    window = Window()
    assert window.offset is None
    assert window.new([3, 1, 2]) == [1, 2, 3]
    window.done(3)
    window.done(1)
    assert window.offset == 2
    window.confirmed(2)
    assert window.new([2, 3, 4]) == [4]
    window.done(2)
    window.done(4)
    assert window.offset == 5
    window.confirmed(5)
    assert window.offset is None


def test_an_update_that_was_not_kept_comes_again() -> None:
    window = Window()
    window.new([1, 2])
    window.done(2)
    window.failed(1)
    assert window.offset == 1
    assert window.is_open
    assert window.new([1, 2]) == [1]
    window.done(1)
    assert window.offset == 3


def sent_at(chats: list[str], messages: int) -> list[float]:
    """When each message goes out if all are wanted at once, one after the other."""
    pace, now, times = Pace(), 0.0, []
    for number in range(messages):
        while wait := pace.take(chats[number % len(chats)], now):
            now += wait
        times.append(now)
        pace.came_back(chats[number % len(chats)], now)
    return times


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(start <= time < start + seconds for time in times) for start in times)


def test_a_group_gets_at_most_twenty_messages_a_minute() -> None:
    assert most_within(sent_at(["-1"], 60), 60.0) == 20


def test_a_chat_gets_one_message_a_second_and_a_short_burst() -> None:
    times = sent_at(["1"], 30)
    assert times[:3] == [0.0, 0.0, 0.0]
    assert most_within(times, 3.0) == 3


def test_all_chats_together_get_thirty_messages_a_second() -> None:
    times = sent_at([str(number) for number in range(200)], 200)
    assert most_within(times, 1.0) == 30
    assert times[-1] < 10


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), min_size=80, max_size=120))
def test_the_limits_hold_however_long_the_way_to_telegram_is(ways: list[tuple[float, float]]) -> None:
    """Each call takes some time, and is counted by Telegram at some moment of it."""
    pace, now, counted = Pace(), 0.0, []
    under_way: list[tuple[float, str]] = []
    for number, (seconds, share) in enumerate(ways):
        chat = str(number % 60)
        while wait := pace.take(chat, now):
            now += wait
            for ends, other in sorted(each for each in under_way if each[0] <= now):
                pace.came_back(other, ends)
                under_way.remove((ends, other))
        counted.append(now + share * seconds)
        under_way.append((now + seconds, chat))
    assert most_within(counted, 1.0) <= 30


class Taken:
    """An `ingest` that keeps what it is given, and fails or waits when told to."""

    def __init__(self) -> None:
        self.all: list[Incoming] = []
        self.trouble: list[Exception] = []
        self.holds: dict[str, asyncio.Event] = {}
        self.outcomes: dict[int, bool] = {}
        self.intake = TelegramReceiver(self, US, album_seconds=0.1, clicked=lambda click: None, alive=lambda chat: None)

    async def __call__(self, incoming: Incoming) -> Receipt:
        assert isinstance(incoming, Event)
        if (hold := self.holds.get(incoming.address.platform_id)) is not None:
            await hold.wait()
        if self.trouble:
            raise self.trouble.pop(0)
        self.all.append(incoming)
        return Receipt(())

    def put(self, server: TelegramServer) -> None:
        for raw in server.pending:
            number = raw["update_id"]
            self.intake.put(raw, lambda is_done, number=number: self.outcomes.update({number: is_done}))  # type: ignore[misc]
        self.count = len(server.pending)

    async def finished(self) -> None:
        await until(lambda: len(self.outcomes) >= self.count, "all have an outcome")

    def texts(self) -> list[str]:
        return [each.text for each in self.all if isinstance(each, Event)]


async def test_an_album_is_one_event_and_what_follows_it_comes_after() -> None:
    taken, server = Taken(), TelegramServer()
    for number in range(3):
        caption = {"caption": "our holidays"} if number == 0 else {}
        server.say(None, photo=[server.file(b"x")], media_group_id="77", **caption)
    server.say("nice, are they not?")
    taken.put(server)
    await taken.finished()

    album, text = taken.all
    assert isinstance(album, Event)
    assert (album.text, len(album.remote_files), album.platform_message_id) == ("our holidays", 3, "101")
    assert isinstance(text, Event)
    assert text.text == "nice, are they not?"
    assert set(taken.outcomes.values()) == {True}


async def test_an_album_that_could_not_be_kept_comes_again_as_a_whole() -> None:
    taken, server = Taken(), TelegramServer()
    server.say(None, photo=[server.file(b"x")], media_group_id="77")
    server.say(None, photo=[server.file(b"x")], media_group_id="77")
    taken.trouble = [DumbwaiterError("the disk is full")]
    taken.put(server)
    await taken.finished()
    assert set(taken.outcomes.values()) == {False}
    taken.outcomes.clear()
    taken.put(server)
    await taken.finished()
    (album,) = taken.all
    assert isinstance(album, Event)
    assert len(album.remote_files) == 2


async def test_a_chat_that_takes_long_holds_up_no_other() -> None:
    taken, server = Taken(), TelegramServer()
    taken.holds["1001"] = asyncio.Event()
    server.say("slow one")
    server.say("quick one", chat=2002)
    taken.put(server)
    await until(lambda: taken.texts() == ["quick one"], "the other is there")
    taken.holds["1001"].set()
    await taken.finished()
    assert taken.texts() == ["quick one", "slow one"]


async def test_what_comes_behind_a_message_that_was_not_kept_comes_again_behind_it() -> None:
    taken, server = Taken(), TelegramServer()
    server.say("first")
    server.say("second")
    taken.trouble = [DumbwaiterError("the disk is full")]
    taken.put(server)
    await taken.finished()
    taken.outcomes.clear()
    taken.put(server)
    await taken.finished()
    assert taken.texts() == ["first", "second"]


async def test_a_bad_update_is_counted_and_the_next_is_not_delayed() -> None:
    taken, server = Taken(), TelegramServer()
    server.push(message={"message_id": [], "chat": None})
    server.say("good")
    taken.put(server)
    await taken.finished()
    assert taken.texts() == ["good"]
    assert taken.intake.skipped == 1
    assert set(taken.outcomes.values()) == {True}


async def test_no_error_of_the_sdk_leaves_with_the_token_in_it() -> None:
    client = Client(TOKEN, "http://127.0.0.1:9", 1.0)
    for error in (ValueError(f"http://x/bot{TOKEN}/getMe"), OSError(TOKEN)):
        assert TOKEN not in str(client.translated(error))
    await client.close()
