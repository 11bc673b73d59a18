"""Several keys of one model service: taken in turn, and one that is refused rests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from host.gateway.keys import KeyRing
from host.gateway.upstreams import Upstream, UpstreamKind, UpstreamSetting, configure, read_file
from host.gateway.upstreams_file import store
from shared_schema.errors import InvalidValue
from tests.gateway.service import ANTHROPIC
from tests.gateway.world import World

KEYS = tuple(SecretStr(f"sk-key-number-{name}") for name in ("one", "two", "three"))
BODY = {"model": "claude-test", "max_tokens": 5}


def refusing(*bad: str, status: int = 429, **headers: str) -> Callable[..., object]:
    """A service that refuses these keys."""

    async def respond(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.headers["x-api-key"] in bad:
            return web.json_response({"type": "error", "error": {"message": "no"}}, status=status, headers=headers)
        return web.json_response(ANTHROPIC)

    return respond


def with_keys(here: World) -> None:
    assert here.grant is not None
    upstream = Upstream("anthropic", here.service.url, KEYS[0], UpstreamKind.ANTHROPIC, keys=KEYS)
    here.grant = replace(here.grant, upstreams={"anthropic": upstream})


def used_keys(here: World) -> list[str]:
    return [seen.headers["x-api-key"].removeprefix("sk-key-number-") for seen in here.service.seen]


async def test_calls_take_the_keys_in_turn(here: World) -> None:
    with_keys(here)
    for _ in range(4):
        assert (await here.message(**BODY))["status"] == 200
    assert used_keys(here) == ["one", "two", "three", "one"]


@pytest.mark.parametrize("status", [401, 403, 429, 529])
async def test_a_call_whose_key_is_refused_is_made_again_with_the_next(here: World, status: int) -> None:
    with_keys(here)
    here.service.respond = refusing("sk-key-number-one", status=status)  # type: ignore[assignment]
    for _ in range(3):
        assert (await here.message(**BODY))["status"] == 200
    assert used_keys(here) == ["one", "two", "three", "two"]
    assert len(here.used) == 3


async def test_when_all_keys_are_refused_the_agent_gets_what_the_service_says(here: World) -> None:
    with_keys(here)
    here.service.respond = refusing(*(key.get_secret_value() for key in KEYS), **{"Retry-After": "30"})  # type: ignore[assignment]
    answer = await here.message(**BODY)
    assert (answer["status"], answer["headers"]["Retry-After"]) == (429, "30")
    assert used_keys(here) == ["one", "two", "three"]


async def test_a_call_that_is_too_large_to_keep_is_to_be_made_again_at_once(here: World) -> None:
    with_keys(here)
    here.service.respond = refusing("sk-key-number-one", status=401)  # type: ignore[assignment]
    large = {**BODY, "messages": [{"role": "user", "content": "x" * 200_000}]}
    answer = await here.message(**large)
    assert (answer["status"], answer["headers"]["Retry-After"]) == (429, "1")
    assert answer["headers"]["X-Dumbwaiter-Refused"] == "next_key"
    assert (await here.message(**large))["status"] == 200
    assert used_keys(here) == ["one", "two"]


def test_a_key_rests_for_as_long_as_the_service_says_and_an_hour_at_most() -> None:
    ring = KeyRing()
    assert ring.answered("s", KEYS[0], 429, "20", now=0)
    assert ring.answered("s", KEYS[1], 429, "9" * 9, now=0)
    assert ring.answered("s", KEYS[2], 401, None, now=0)
    assert not ring.answered("s", KEYS[2], 200, None, now=0)
    assert not ring.has_another("s", KEYS, now=19)
    assert ring.choose("s", KEYS, now=19) == KEYS[0]
    assert ring.has_another("s", KEYS, now=20)
    assert [ring.choose("s", KEYS, now=700) for _ in range(3)] == [KEYS[2], KEYS[0], KEYS[2]]
    assert ring.choose("s", KEYS, now=3600) in KEYS


def test_keys_come_from_the_settings_or_the_file_and_stay_when_another_is_set(tmp_path: Path) -> None:
    path = tmp_path / "upstreams.toml"
    path.write_text('[anthropic]\nkeys = ["a-key", "b-key", "a-key", " "]\n')
    path.chmod(0o600)
    store(path, "anthropic", {"key": "c-key"})
    found = configure({}, read_file(path), {})["anthropic"]
    assert [key.get_secret_value() for key in found.keys] == ["c-key", "a-key", "b-key"]
    assert found.key is not None
    alone = configure({"anthropic": UpstreamSetting(keys=(SecretStr("d-key"),))}, read_file(path), {})["anthropic"]
    assert (alone.key and alone.key.get_secret_value(), alone.keys) == ("d-key", ())
    with pytest.raises(InvalidValue, match="51 keys"):
        configure({"x": UpstreamSetting(url="http://h", keys=[SecretStr(f"k{n}") for n in range(51)])}, {}, {})
