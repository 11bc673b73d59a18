"""What a caller posts to the channel `webhook`: the head of a request, and its body once the signature is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from host.channels.webhook.request import event_of
from host.channels.webhook.settings import Hook
from host.channels.webhook.signature import SignatureRefused, require_recent, require_signed
from host.channels.webhook.template import MAX_TEXT
from shared_schema.errors import InvalidValue
from shared_schema.rows import Address
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT

_HOOKS = (
    Hook(),
    Hook(text="{/title}: {/labels/0} {}", sender="/by/id", sender_name="/by/name", thread="/labels"),
    Hook(text="{/text}" * 500),
)


def _healthy() -> list[bytes]:
    bodies = (
        {"text": "hello", "sender": "ann", "sender_name": "Ann", "thread": "t-1"},
        {"title": "disk full", "labels": ["db", "eu"], "by": {"id": 7, "name": "Ann"}},
        {"text": "x" * 20_000},
        {"text": "\ud800", "sender": "\u202e", "thread": "x" * 600},
        [[[[[["deep"]]]]]],
    )
    return [json.dumps(body).encode() for body in bodies] + [b"[" * 50_000, b'{"text": 1e999}', b"\xff\xfe"]


@contextmanager
def _body(folder: Path) -> Iterator[Drive]:
    def drive(body: bytes) -> None:
        refused = None
        for hook in _HOOKS:
            for is_json in (True, False):
                try:
                    event = event_of(Address("webhook", "alerts"), "first", body, hook, is_json=is_json)
                except InvalidValue as error:
                    refused = error
                else:
                    assert len(event.text) <= MAX_TEXT
        if refused is not None:
            raise refused

    yield drive


@contextmanager
def _head(folder: Path) -> Iterator[Drive]:
    def drive(values: tuple[str, str, str]) -> None:
        headers = dict(zip(("webhook-id", "webhook-timestamp", "webhook-signature"), values, strict=True))
        require_recent(headers, 1_800_000_000.0, 300.0)
        require_signed(["0123456789abcdef"], headers, b"{}")
        raise AssertionError("a signature was guessed")

    yield drive


WEBHOOKS = (
    of_bytes("webhook-body", _body, _healthy, (InvalidValue,)),
    Target(
        "webhook-head",
        _head,
        st.tuples(ANY_TEXT, ANY_TEXT | st.just("1800000000"), ANY_TEXT | st.just("v1,é v1,AAAA " + "v1," * 2_000)),
        (SignatureRefused,),
    ),
)
