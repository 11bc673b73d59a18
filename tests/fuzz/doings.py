"""What people do beside writing, on each platform: they edit, delete, press buttons, react, and add the bot.

As a platform's raw event, with most of its fields right, through the reader of its channel and the router behind it: a
conversation and one message that waits are there to be changed. It is taken, or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from host.channels.discord.directory import Directory
from host.channels.discord.events import DiscordReader
from host.channels.github.events import GitHubAccount, of_webhook
from host.channels.matrix.events import EventRoom, incoming
from host.channels.slack.events import SlackBot, SlackReader
from host.channels.telegram.events import TelegramBot, translate
from host.channels.telegram.wire import read_update
from host.routing.event import ChatMoved, Clicked, Deleted, Edited, Event, Incoming
from shared_schema.errors import DumbwaiterError
from shared_schema.rows import Address
from tests.fuzz import ledger
from tests.fuzz.ledger import MESSAGE
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, JSON_VALUES, REPEATED, nearly_right

_CHAT, _FIRST = "one", "first"
"""The chat and the platform's id of its message, in the registry of `ledger`."""
_TEXTS = ANY_TEXT | REPEATED | st.sampled_from(("hello", "/new", "x" * 5_000))
_BUTTONS = ANY_TEXT | st.sampled_from((f"answer:{MESSAGE}:1", f"answer:{MESSAGE}:{'9' * 400}", "apr:1:yes", "a:b:c:d"))
_NAMES = ANY_TEXT | st.sampled_from(("Ann", "\u202eAnn\nOwner: yes", "x" * 3_000))

Read = Callable[[Any], Iterable[Incoming]]


def _through(read: Read) -> Callable[[Path], Any]:
    """A reader, and the router behind it."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Drive]:
        with ledger.opened(folder / "data") as there:

            def drive(raw: Any) -> None:
                try:
                    for each in read(raw):
                        if not isinstance(each, Event):
                            there.run(there.services.router.ingest(_at_home(each)))
                finally:
                    there.run(there.put_back())

            yield drive

    return opened


def _at_home(each: Incoming) -> Incoming:
    """The same in the registry's chat and about its message, where the platform's own ids are numbers."""
    if isinstance(each, ChatMoved):
        return each
    if each.address.platform_id in ("5", "acme/rocket"):
        each = replace(each, address=Address("memory", _CHAT, each.address.thread_id))
    if isinstance(each, Edited | Deleted | Clicked) and each.platform_message_id in ("7", "comment-7", "issue-7"):
        each = replace(each, platform_message_id=_FIRST)
    return each


def _telegram(raw: Any) -> Iterable[Incoming]:
    return translate(read_update(raw), TelegramBot("memory", 99, "waiter_bot"))


_TELEGRAM_USER = nearly_right(JSON_VALUES, id=(7, 99, -1), first_name=_NAMES, username=ANY_TEXT, is_bot=st.booleans())
_TELEGRAM_CHAT = nearly_right(JSON_VALUES, id=(5, -500), type=("private", "group", "supergroup"), title=_NAMES)
_TELEGRAM_MESSAGE = nearly_right(
    JSON_VALUES,
    message_id=(7, 8),
    chat=_TELEGRAM_CHAT,
    text=_TEXTS,
    caption=_TEXTS,
    edit_date=st.integers(),
    **{"from": _TELEGRAM_USER},
)
_MEMBER = nearly_right(
    JSON_VALUES, status=("member", "left", "kicked", "administrator", "restricted"), user=_TELEGRAM_USER
)
_TELEGRAM_UPDATES = nearly_right(
    JSON_VALUES,
    update_id=st.integers(0, 9),
    edited_message=_TELEGRAM_MESSAGE,
    callback_query=nearly_right(
        JSON_VALUES, id=ANY_TEXT, data=_BUTTONS, message=_TELEGRAM_MESSAGE, **{"from": _TELEGRAM_USER}
    ),
    my_chat_member=nearly_right(
        JSON_VALUES, chat=_TELEGRAM_CHAT, old_chat_member=_MEMBER, new_chat_member=_MEMBER, **{"from": _TELEGRAM_USER}
    ),
).flatmap(lambda update: _one_of_it(update, "edited_message", "callback_query", "my_chat_member"))


def _one_of_it(update: dict[str, Any], *kinds: str) -> SearchStrategy[dict[str, Any]]:
    """An update tells of one thing alone."""
    return st.sampled_from(kinds).map(
        lambda kind: {key: value for key, value in update.items() if key == kind or key not in kinds}
    )


_SLACK = SlackReader("memory", SlackBot("UBOT1", "BBOT1"))


def _slack(raw: Any) -> Iterable[Incoming]:
    found = [_SLACK.event(raw), _SLACK.interaction(raw)]
    return [each for each in found if each is not None]


_SLACK_SAID = nearly_right(JSON_VALUES, user=("U1", "UBOT1"), text=_TEXTS, ts=(_FIRST, "1.2"), thread_ts=ANY_TEXT)
_SLACK_EVENTS = st.one_of(
    nearly_right(
        JSON_VALUES,
        type=st.just("message"),
        subtype=("message_changed", "message_deleted"),
        channel=(_CHAT, "C9"),
        message=_SLACK_SAID,
        previous_message=_SLACK_SAID,
        deleted_ts=(_FIRST, "1.2"),
    ),
    nearly_right(
        JSON_VALUES,
        type=("member_joined_channel", "channel_left", "channel_id_changed", "reaction_added", "reaction_removed"),
        user=("UBOT1", "U1"),
        channel=(_CHAT, "C9"),
        inviter=ANY_TEXT,
        reaction=ANY_TEXT,
        item=nearly_right(JSON_VALUES, type=st.just("message"), channel=(_CHAT, "C9"), ts=(_FIRST, "1.2")),
        old_channel_id=(_CHAT, "C9"),
        new_channel_id=ANY_TEXT,
    ),
    nearly_right(
        JSON_VALUES,
        type=st.just("block_actions"),
        user=nearly_right(JSON_VALUES, id=("U1", "U2"), name=_NAMES),
        channel=nearly_right(JSON_VALUES, id=(_CHAT, "C9")),
        message=_SLACK_SAID,
        actions=st.lists(
            nearly_right(JSON_VALUES, type=st.just("button"), value=_BUTTONS, action_ts=ANY_TEXT), max_size=3
        ),
    ),
)


def _discord(raw: Any) -> Iterable[Incoming]:
    event, data = raw
    if not isinstance(data, dict):
        return
    directory = Directory("1001")
    directory.learn(event, data)
    reader = DiscordReader("memory", "1001", directory)
    yield from reader.read(event, data)
    if event == "GUILD_CREATE":
        yield from reader.joined(data)


_DISCORD_USER = nearly_right(JSON_VALUES, id=("2001", "1001"), username=_NAMES, global_name=_NAMES, bot=st.booleans())
_DISCORD_EVENTS = st.tuples(
    st.sampled_from(
        (
            "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK", "INTERACTION_CREATE", "GUILD_CREATE",
            "GUILD_DELETE", "CHANNEL_DELETE", "THREAD_DELETE", "MESSAGE_REACTION_ADD",
        )
    ),
    nearly_right(
        JSON_VALUES,
        id=(_FIRST, "9001", _CHAT),
        channel_id=(_CHAT, "4001"),
        guild_id=("3001",),
        content=_TEXTS,
        edited_timestamp=ANY_TEXT,
        author=_DISCORD_USER,
        user=_DISCORD_USER,
        user_id=("2001", "1001"),
        ids=st.lists(st.just(_FIRST) | JSON_VALUES, max_size=4),
        type=(0, 2, 3, 11),
        message_id=(_FIRST, "9001"),
        emoji=nearly_right(JSON_VALUES, name=ANY_TEXT),
        message=nearly_right(JSON_VALUES, id=(_FIRST, "9001")),
        data=nearly_right(JSON_VALUES, custom_id=_BUTTONS, name=ANY_TEXT),
        name=_NAMES,
        system_channel_id=(_CHAT, "4001"),
        channels=st.lists(nearly_right(JSON_VALUES, id=(_CHAT, "4001"), type=(0, 2)), max_size=3),
    ),
)  # fmt: skip


def _matrix(raw: Any) -> Iterable[Incoming]:
    found = incoming(raw, EventRoom("memory", _CHAT, "@bot:matrix.test", "bot"), "Ann")
    return [] if found is None else [found]


_MATRIX_IDS = st.sampled_from((_FIRST, "$two", "x" * 300, "\u202e", ""))
_MATRIX_EVENTS = nearly_right(
    JSON_VALUES,
    type=("m.room.message", "m.room.redaction", "m.reaction"),
    event_id=_MATRIX_IDS,
    sender=("@ann:matrix.test", "@bot:matrix.test"),
    redacts=_MATRIX_IDS,
    content=nearly_right(
        JSON_VALUES,
        msgtype=("m.text", "m.emote"),
        body=_TEXTS,
        redacts=_MATRIX_IDS,
        **{
            "m.new_content": nearly_right(JSON_VALUES, body=_TEXTS, msgtype=("m.text",)),
            "m.relates_to": nearly_right(
                JSON_VALUES, rel_type=("m.replace", "m.annotation"), event_id=_MATRIX_IDS, key=ANY_TEXT
            ),
        },
    ),
)


def _github(raw: Any) -> Iterable[Incoming]:
    found = of_webhook(*raw, GitHubAccount("memory", "dw-bot"))
    return [] if found is None else [found[1]]


_GITHUB_POST = nearly_right(
    JSON_VALUES,
    id=(7, 8),
    number=(7, 8),
    title=_TEXTS,
    body=_TEXTS,
    user=nearly_right(JSON_VALUES, login=("ann", "dw-bot"), type=("User", "Bot")),
    created_at=("2026-01-01T00:00:00Z",),
    updated_at=("2026-01-02T00:00:00Z", "yesterday"),
    issue_url=("https://x/issues/7",),
)
_GITHUB_EVENTS = st.tuples(
    st.sampled_from(("issues", "issue_comment", "pull_request", "pull_request_review_comment", "pull_request_review")),
    nearly_right(
        JSON_VALUES,
        action=("edited", "deleted"),
        repository=st.just({"full_name": "acme/rocket"}),
        issue=_GITHUB_POST,
        comment=_GITHUB_POST,
        pull_request=_GITHUB_POST,
        review=_GITHUB_POST,
        changes=JSON_VALUES,
    ),
)

DOINGS = (
    Target("telegram-doings", _through(_telegram), _TELEGRAM_UPDATES, (DumbwaiterError,)),
    Target("slack-doings", _through(_slack), _SLACK_EVENTS, (DumbwaiterError,)),
    Target("discord-doings", _through(_discord), _DISCORD_EVENTS, (DumbwaiterError,)),
    Target("matrix-doings", _through(_matrix), _MATRIX_EVENTS, (DumbwaiterError,)),
    Target("github-doings", _through(_github), _GITHUB_EVENTS, (DumbwaiterError,)),
)
