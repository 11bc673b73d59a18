"""Events of Matrix rooms: anybody on any server writes what they like into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.channels.matrix.content import related, text_content
from host.channels.matrix.events import MAX_TEXT, EventRoom, incoming, readers, replied_to
from host.routing.event import Event
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, JSON_VALUES, REPEATED, nearly_right

_ME = "@bot:matrix.test"
_IDS = st.sampled_from(("$one", "$two", "@ann:matrix.test", _ME, "x" * 300, "\u202e", ""))
_RELATIONS = nearly_right(
    JSON_VALUES,
    rel_type=("m.thread", "m.replace", "m.annotation"),
    event_id=_IDS,
    key=("👍", "x" * 5_000),
    is_falling_back=st.booleans(),
    **{"m.in_reply_to": st.fixed_dictionaries({"event_id": _IDS | JSON_VALUES})},
)
_CONTENTS = nearly_right(
    JSON_VALUES,
    msgtype=("m.text", "m.notice", "m.emote", "m.image", "m.file"),
    body=ANY_TEXT | REPEATED | st.just(f"> <{_ME}> a\n> b\n\nc"),
    formatted_body=ANY_TEXT,
    url=("mxc://matrix.test/abc", "https://evil.test", "mxc://" + "x" * 600),
    file=JSON_VALUES,
    info=st.fixed_dictionaries({"size": st.integers() | JSON_VALUES}),
    **{
        "m.relates_to": _RELATIONS,
        "m.new_content": st.fixed_dictionaries({"body": ANY_TEXT}),
        "m.mentions": JSON_VALUES,
    },
)
_EVENTS = nearly_right(
    JSON_VALUES,
    type=("m.room.message", "m.reaction", "m.room.redaction", "m.room.encrypted"),
    event_id=_IDS,
    sender=_IDS,
    redacts=_IDS,
    content=_CONTENTS,
)


@contextmanager
def _event(folder: Path) -> Iterator[Drive]:
    def drive(source: Any) -> None:
        found = incoming(source, EventRoom("matrix", "!room:matrix.test", _ME, "bot"), "Ann")
        replied_to(source)
        readers([("m.read", "@ann:matrix.test", source.get("content"))], _ME)
        if isinstance(found, Event):
            assert len(found.text) <= MAX_TEXT
            found.require_identifiers()
            related(text_content(found.text[:20_000], is_notice=False), found.address.thread_id, found.reply_to)

    yield drive


MATRICES = (Target("matrix-event", _event, _EVENTS, (InvalidValue,)),)
