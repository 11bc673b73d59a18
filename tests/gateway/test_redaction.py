"""What a service says of a refusal is logged and passed on without a key, however the service writes it."""

from __future__ import annotations

import base64
import json
import logging
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from host.gateway.redaction import without_key, without_keys
from host.gateway.server import Transport
from tests.gateway.world import CANARY, world

KEY = "sk-canary/01+23=45_~6789"
WRITINGS = {
    "plain": KEY,
    "json": json.dumps(KEY),
    "json, all escaped": "".join(f"\\u{ord(character):04x}" for character in KEY),
    "json in json": json.dumps(json.dumps("".join(f"\\u{ord(character):04X}" for character in KEY))),
    "url": quote(KEY, safe=""),
    "url twice": quote(quote(KEY, safe=""), safe=""),
    "url, all escaped": "".join(f"%{ord(character):02X}" for character in KEY),
    "html": "".join(f"&#{ord(character)};" for character in KEY),
    "other case": KEY.upper(),
    "hexadecimal": KEY.encode().hex(),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {KEY} and more".encode()).decode(),
    "base64 behind two": base64.b64encode(f"Bearer: {KEY}".encode()).decode(),
    "base64 for urls": base64.urlsafe_b64encode(f"x{KEY}".encode()).decode(),
    "backwards": KEY[::-1],
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_the_key_is_found_in_every_writing(writing: str) -> None:
    text = without_key(f"before {WRITINGS[writing]} after", KEY)
    assert "[key]" in text
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert "canary" not in text.lower()


@pytest.mark.parametrize("text", ["\\" * 32_768, "sk-" + "\\" * 32_768, "s\\" * 16_384, "&#" + "0" * 32_768])
def test_a_text_that_is_made_for_it_does_not_hold_up_the_host(text: str) -> None:
    """A service repeats in its error what an agent has asked it for; the square of its length would be 15 seconds."""
    began = time.thread_time()
    assert without_key(text, KEY) == text
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-0123456789abcdef.",
        "https://x/v1?key=AIzaSyA0123456789abcdefghijklmnopq&alt=sse",
        "Authorization: Bearer abcdef0123456789",
        "token eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl is over",
        "gsk_0123456789abcdef",
    ],
)
def test_what_looks_like_a_key_goes_too(text: str) -> None:
    assert "[key]" in without_keys(text)
    assert "0123456789" not in without_keys(text)
    assert "eyJ" not in without_keys(text)


def test_other_words_stay() -> None:
    text = "Invalid schema for function 'bad__find': tools[16].function.parameters is not of type 'object'"
    assert without_keys(without_key(text, CANARY)) == text


async def test_a_refusal_is_logged_in_the_words_of_the_service_without_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(request: web.Request, body: bytes) -> web.StreamResponse:
        message = f"Invalid schema for function 'find'; key {quote(CANARY)} or {CANARY.encode().hex()}"
        return web.json_response({"error": {"message": message + " and so on" * 1000}}, status=400)

    caplog.set_level(logging.INFO)
    async with world(tmp_path, Transport.UNIX) as made:
        made.service.respond = refuse
        answer = await made.message()
    assert answer["status"] == 400
    (record,) = [record for record in caplog.records if record.message == "a model service refused a call"]
    said = record.__dict__["said"]
    assert (record.__dict__["upstream"], record.__dict__["status"]) == ("anthropic", 400)
    assert "Invalid schema for function 'find'; key [key] or [key]" in said
    assert len(said) <= 2000
    assert "canary" not in caplog.text
    assert CANARY not in str(answer)


async def test_the_gateway_says_that_it_lives_and_which_one_it_is(tmp_path: Path) -> None:
    ids = []
    for transport in Transport:
        async with world(tmp_path, transport) as made:
            for _ in range(2):
                head, _, body = (await made.raw(b"GET /dumbwaiter/alive HTTP/1.1\r\nHost: x\r\n\r\n")).partition(
                    b"\r\n\r\n"
                )
                assert head.startswith(b"HTTP/1.1 200 OK")
                ids.append(body)
            assert made.refused == []
    assert len(set(ids)) == 2
    assert [len(each) for each in ids] == [16] * 4
