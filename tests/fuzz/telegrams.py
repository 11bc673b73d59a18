"""Updates of Telegram's: with missing, wrong, huge and hostile fields, and as bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.channels.telegram.events import TelegramBot, translate
from host.channels.telegram.receiver import TelegramReceiver
from host.channels.telegram.wire import read_update, update_id
from host.routing.event import Event, Incoming, Receipt
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT, JSON_VALUES

US = TelegramBot("telegram", 99, "waiter_bot")
_ID = st.one_of(st.integers(-(2**70), 2**70), st.sampled_from((0, 1, -1, 99, -500)), st.none(), ANY_TEXT)
_USER = st.fixed_dictionaries(
    {"id": _ID}, optional={"first_name": ANY_TEXT, "username": ANY_TEXT, "is_bot": st.booleans()}
)
_CHAT = st.fixed_dictionaries({"id": _ID}, optional={"type": ANY_TEXT, "title": ANY_TEXT})
_FILE = st.fixed_dictionaries(
    {"file_id": ANY_TEXT}, optional={"file_name": ANY_TEXT, "file_size": _ID, "mime_type": ANY_TEXT}
)
_ENTITY = st.fixed_dictionaries(
    {"type": st.sampled_from(("mention", "bot_command", "text_mention", "url")), "offset": _ID, "length": _ID},
    optional={"user": _USER},
)
_MESSAGE = st.fixed_dictionaries(
    {"message_id": st.integers(1, 9), "chat": st.one_of(_CHAT, st.just({"id": 5, "type": "group"}))},
    optional={
        "from": st.one_of(_USER, st.just({"id": 7, "first_name": "Ann"})),
        "text": st.one_of(ANY_TEXT, st.just("@waiter_bot hello"), st.just("/new@waiter_bot")),
        "caption": ANY_TEXT,
        "entities": st.lists(_ENTITY, max_size=4),
        "photo": st.lists(_FILE, max_size=3),
        "document": _FILE,
        "voice": JSON_VALUES,
        "media_group_id": ANY_TEXT,
        "message_thread_id": _ID,
        "is_topic_message": st.booleans(),
        "reply_to_message": st.fixed_dictionaries({"message_id": _ID}, optional={"from": _USER, "text": ANY_TEXT}),
        "quote": JSON_VALUES,
        "migrate_to_chat_id": _ID,
        "sender_chat": _CHAT,
    },
)
_UPDATES = st.one_of(
    JSON_VALUES,
    st.fixed_dictionaries(
        {"update_id": st.one_of(st.integers(0, 10), _ID)},
        optional={
            "message": _MESSAGE,
            "edited_message": _MESSAGE,
            "callback_query": st.fixed_dictionaries(
                {"id": ANY_TEXT, "from": _USER}, optional={"message": _MESSAGE, "data": ANY_TEXT}
            ),
            "message_reaction": st.fixed_dictionaries(
                {"chat": _CHAT, "message_id": _ID}, optional={"user": _USER, "new_reaction": JSON_VALUES}
            ),
            "my_chat_member": JSON_VALUES,
        },
    ),
)
_DEEP: Any = {"message_id": 1, "chat": {"id": 1}}
for _ in range(200):
    _DEEP = {"message_id": 1, "chat": {"id": 1}, "reply_to_message": _DEEP}


@contextmanager
def _intake(folder: Path) -> Iterator[Drive]:
    """A bad update between two good ones: both are handed over, and each has its outcome."""
    good = [{"update_id": n, "message": {"message_id": n, "chat": {"id": n}, "text": "hello"}} for n in (10**6, 10**7)]

    async def run(value: Any) -> None:
        heard: list[Incoming] = []
        outcomes: list[bool] = []

        async def ingest(incoming: Incoming) -> Receipt:
            if isinstance(incoming, Event):
                incoming.require_identifiers()
                assert len(incoming.quote or "") <= 1_000
            heard.append(incoming)
            return Receipt(())

        intake = TelegramReceiver(ingest, US, album_seconds=0.0, clicked=lambda click: None, alive=lambda chat: None)
        for raw in (good[0], value, good[1]):
            update_id(raw)
            intake.put(raw, outcomes.append)
        async with asyncio.timeout(5):
            while len(outcomes) < 3:
                await asyncio.sleep(0)
        await intake.close()
        assert outcomes == [True] * 3
        ids = [each.platform_message_id for each in heard if isinstance(each, Event)]
        assert {str(10**6), str(10**7)} <= set(ids)

    yield lambda value: asyncio.run(run(value))


@contextmanager
def _bytes(folder: Path) -> Iterator[Drive]:
    def drive(data: bytes) -> None:
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError):
            return
        translate(read_update(raw), US)

    yield drive


def _healthy() -> list[bytes]:
    message = {
        "message_id": 5, "date": 1, "chat": {"id": -500, "type": "group", "title": "Kitchen"},
        "from": {"id": 7, "is_bot": False, "first_name": "Ann"}, "text": "@waiter_bot hello",
        "entities": [{"type": "mention", "offset": 0, "length": 11}],
        "reply_to_message": {"message_id": 4, "from": {"id": 99}, "text": "what?"},
    }  # fmt: skip
    click = {"id": "1", "from": message["from"], "message": message, "data": "y:1"}
    return [
        json.dumps({"update_id": number, kind: value}).encode()
        for number, (kind, value) in enumerate(
            {"message": message, "edited_message": message, "callback_query": click}.items(), 1
        )
    ]


TELEGRAM = (
    Target("telegram-updates", _intake, _UPDATES, (), known=({"update_id": 1, "message": _DEEP},)),
    of_bytes("telegram-bytes", _bytes, _healthy, (InvalidValue,)),
)
