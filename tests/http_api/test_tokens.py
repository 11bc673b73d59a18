"""Tokens: shown once, kept as hashes, bound to what they are for, and ended at once."""

from __future__ import annotations

from typing import Any

import pytest

from host.central import tokens
from host.http_api.caller import Callers
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.http_api.programs import Api
from tests.support.host import AGENT
from tests.support.wait import until


async def models(api: Api, token: str | None, **headers: str) -> int:
    async with api.stranger(token) as program:
        return (await program.get("/v1/models", **headers))[0]


async def test_a_token_is_shown_once_and_its_hash_is_kept(api: Api) -> None:
    made = await api.host.do("token.add", name="app")
    assert made["address"] == api.address
    assert await models(api, made["token"]) == 200

    kept = str(await api.host.central("SELECT * FROM tokens"))
    listed = await api.host.do("token.list")
    audited = await api.host.do("audit.list")
    assert made["token"] not in kept + str(listed) + str(audited)
    assert made["token"].startswith("dw_")


async def test_a_token_that_is_revoked_is_refused_at_once(api: Api) -> None:
    token = await api.token()
    assert await models(api, token) == 200

    await api.host.do("token.revoke", name="app")

    assert await models(api, token) == 401
    assert await api.host.do("token.list") == []
    with pytest.raises(NotFound, match="token list"):
        await api.host.do("token.revoke", name="app")


async def test_a_token_expires(api: Api) -> None:
    token = await api.token(expires_days=1e-8)

    async def is_refused() -> bool:
        return await models(api, token) == 401

    await until(is_refused, "it has expired")
    assert [each["expired"] for each in await api.host.do("token.list")] == [True]


async def test_a_token_goes_with_its_agent_group(api: Api) -> None:
    await api.host.do("agent_group.add", name="other", provider="scripted")
    token = await api.token(agent_group="other")
    assert await models(api, token) == 200

    await api.host.do("agent_group.remove", name="other")

    assert await models(api, token) == 401


async def test_when_a_token_was_used_is_listed_with_what_it_spent(api: Api) -> None:
    async with api.program(budget_usd=1.0) as program:
        assert [each["last_used"] for each in await api.host.do("token.list")] == [None]
        status, _ = await program.post("/v1/responses", {"model": AGENT, "input": "use 4\ncost 0.25"})
        assert status == 200

        async def used() -> Any:
            (listed,) = await api.host.do("token.list")
            return listed if listed["last_used"] and listed["used_tokens"] else None

        listed = await until(used, "its use is listed")
        assert (listed["used_tokens"], listed["used_usd"]) == (8, 0.25)


async def test_what_cannot_be_a_token_is_refused_with_what_to_do(api: Api) -> None:
    await api.token()
    for wrong, kind in (
        ({"name": "app"}, Conflict),
        ({"name": "../etc"}, InvalidValue),
        ({"name": "a", "rights": "root"}, InvalidValue),
        ({"name": "a", "agent_group": "nobody"}, NotFound),
        ({"name": "a", "budget_usd": 0.0}, InvalidValue),
        ({"name": "a", "budget_tokens": 0}, InvalidValue),
        ({"name": "a", "budget_period": "week"}, InvalidValue),
        ({"name": "a", "expires_days": -1.0}, InvalidValue),
        ({"name": "a", "expires_days": 1e9}, InvalidValue),
    ):
        with pytest.raises(kind) as said:
            await api.host.do("token.add", **wrong)
        assert said.value.what
    assert [each["name"] for each in await api.host.do("token.list")] == ["app"]


async def test_no_cookie_calls_the_api_and_no_token_opens_a_page(api: Api) -> None:
    token = await api.token(rights="admin")
    link = (await api.host.do("web.link"))["url"].partition("#")[2]
    async with api.stranger() as browser:
        form = {"Origin": api.address, "Content-Type": "application/x-www-form-urlencoded"}
        status, _, headers = await browser.ask("POST", "/sign-in", data=f"token={link}".encode(), **form)
        assert status == 303
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert (await browser.get("/", Cookie=cookie, Accept="text/html"))[0] == 200
        assert (await browser.get("/v1/models", Cookie=cookie))[0] == 401
    async with api.stranger(token) as program:
        for path in ("/", "/chat", "/sessions", "/audit", "/live"):
            assert (await program.get(path))[0] == 401, path
        assert (await program.get("/", Cookie=f"{cookie.partition('=')[0]}={token}"))[0] == 401


async def test_what_is_done_with_a_token_is_its_own_in_the_audit_log(api: Api) -> None:
    async with api.program() as program:
        assert (await program.post("/v1/responses", {"model": AGENT, "input": "x"}))[0] == 200

    entries = {(each["who"], each["action"]) for each in await api.host.do("audit.list")}
    assert ("token app", "wiring.add") in entries


async def test_who_listens_on_is_asked_whether_its_token_still_holds(api: Api) -> None:
    await api.token()
    callers = Callers(api.host.services)
    token = await api.host.services.central.read(tokens.find, "app")
    assert token is not None
    assert await callers.holds(token)

    await api.host.do("token.revoke", name="app")
    await api.token()  # another one of the same name

    assert not await callers.holds(token)
