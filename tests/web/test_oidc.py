"""Signing in through a team's OpenID Connect provider: a real one, and one that lies."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from host.access.provider_roles import handle, roles_for
from host.web.oidc_provider import OidcProvider, ProviderFailed
from host.web_settings import OidcSetting
from shared_schema.clock import ManualClock, SystemClock
from tests.support.host import AGENT
from tests.web.browser import Client, Site, chromium, needs_chromium, open_site
from tests.web.provider import (
    OTHER,
    HostileProvider,
    altered,
    consent,
    link_in,
    real_provider,
    signed,
    unsigned,
    with_public_key_as_secret,
)

ANN = json.dumps({"sub": "ann", "name": "Ann <b>", "groups": ["staff"]})
BOB = json.dumps({"sub": "bob", "email": "bob@example.org", "email_verified": True, "groups": ["other"]})


def oidc(issuer: str, **more: Any) -> dict[str, Any]:
    return {
        "port": 0,
        "oidc": {
            "issuer": issuer,
            "client_id": "dumbwaiter",
            "client_secret": "not so secret",
            "label": "Example Login",
            "groups": {"staff": f"member:{AGENT}", "boss": "owner"},
            **more,
        },
    }


@asynccontextmanager
async def page_of(data: Path, issuer: str, **more: Any) -> AsyncIterator[Site]:
    async with open_site(data, web=oidc(issuer, **more)) as site:
        yield site


@asynccontextmanager
async def browser(site: Site) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Client(site.address, session)


async def to_provider(client: Client) -> str:
    status, _, headers = await client.get("/sign-in/provider")
    assert status == 303
    return str(headers["Location"])


async def back(client: Client, location: str) -> tuple[int, str]:
    assert location.startswith(client.address)
    status, body, _ = await client.get(location.removeprefix(client.address))
    return status, body


async def roles_of(site: Site, user: str) -> list[tuple[str, str | None]]:
    return [(each["role"], each["agent_group"]) for each in (await site.host.do("user.show", user=user))["roles"]]


async def test_a_person_signs_in_with_a_real_provider_and_gets_the_roles_of_their_groups(tmp_path: Path) -> None:
    async with real_provider(ANN, BOB) as issuer, page_of(tmp_path / "data", issuer) as site, browser(site) as ann:
        assert "Sign in with Example Login" in (await ann.get("/sign-in"))[1]
        status, page = await back(ann, await consent(ann.session, await to_provider(ann), "ann"))
        assert (status, link_in(page)) == (200, "/")
        user = f"web:ann@{issuer.removeprefix('http://')}"
        assert await roles_of(site, user) == [("member", AGENT)]
        assert (await ann.get("/"))[2]["Location"] == "/chat"
        assert (await ann.get("/sessions"))[0] == 404  # a member is no owner
        (signed_in,) = await site.host.do("web.list")
        assert signed_in["user"] == user
        actions = [each["action"] for each in await site.host.do("audit.list") if each["who"] == user]
        assert actions == ["web.sign_in", "web.roles"]
        await site.host.do("web.sign_out", id=signed_in["id"])
        assert (await ann.get("/chat"))[0] == 303
        async with browser(site) as bob:  # who has no role gets in nowhere, and is told what would help
            status, page = await back(bob, await consent(bob.session, await to_provider(bob), "bob"))
            assert status == 403
            assert f"dumbwaiter member add web:bob@{issuer.removeprefix('http://')}" in page
            assert (await bob.get("/chat"))[0] == 303
            assert [each["user"] for each in await site.host.do("user.list")] == [user]


@needs_chromium
async def test_in_a_browser_a_click_signs_in_although_the_cookie_is_strict(tmp_path: Path) -> None:
    async with real_provider(ANN) as issuer, page_of(tmp_path / "data", issuer) as site, chromium() as chrome:
        page = await chrome.new_page()
        page.set_default_timeout(60_000)
        await page.goto(f"{site.address}/chat")
        await page.click("text=Sign in with Example Login")
        await page.click("button:has-text('ann')")  # on the provider's page, which is another site
        await page.wait_for_url(f"{site.address}/chat/new**")
        assert await page.inner_text("header.bar .brand") == "Dumbwaiter"


async def test_a_role_that_the_provider_takes_back_is_gone_and_one_of_an_owner_stays(tmp_path: Path) -> None:
    async with HostileProvider().running() as provider, page_of(tmp_path / "data", provider.issuer) as site:
        user = f"web:mallory@{provider.issuer.removeprefix('http://')}"

        async def sign_in(groups: list[str]) -> None:
            provider.claims = {"groups": groups}
            async with browser(site) as client:
                await back(client, provider.authorized(await to_provider(client)))

        await sign_in(["staff", "boss"])
        assert await roles_of(site, user) == [("owner", None), ("member", AGENT)]
        await sign_in(["boss"])
        assert await roles_of(site, user) == [("owner", None)]
        await site.host.do("role.grant", user=user, role="member")
        await sign_in([])
        assert await roles_of(site, user) == [("member", None)]


def _claims(**changed: Any) -> Callable[[HostileProvider], None]:
    return lambda provider: provider.claims.update(changed)


def _signed(sign: Callable[[dict[str, Any]], str]) -> Callable[[HostileProvider], None]:
    return lambda provider: setattr(provider, "sign", sign)


def _offers(**changed: Any) -> Callable[[HostileProvider], None]:
    return lambda provider: provider.metadata.update(changed)


def _asked_again(provider: HostileProvider) -> None:
    provider.claims, provider.more = {"groups": None}, {"sub": "ann", "groups": ["boss"]}


LIES: dict[str, Callable[[HostileProvider], None]] = {
    "another issuer": _claims(iss="http://127.0.0.1:1"),
    "another client": _claims(aud="another"),
    "several clients without saying which": _claims(aud=["another", "dumbwaiter"]),
    "given to another client": _claims(azp="another"),
    "another nonce": _claims(nonce="another"),
    "no nonce": _claims(nonce=None),
    "too old": _claims(exp=1_000_000_000),
    "not yet": _claims(iat=4_000_000_000),
    "no end": _claims(exp=None),
    "endless": _claims(exp=True),
    "no signature": _signed(unsigned),
    "the public key as secret": _signed(with_public_key_as_secret),
    "another key": _signed(lambda claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, OTHER)),
    "an unknown key": _signed(lambda claims: jwt.encode({"alg": "RS256", "kid": "two"}, claims, OTHER)),
    "exchanged claims": _signed(altered),
    "no token": _signed(lambda claims: "x"),
    "much text": _signed(lambda claims: "x." * 50_000),
    "another person when asked again": _asked_again,
    "mixed up: another issuer in its discovery": _offers(issuer="http://127.0.0.1:1"),
    "a token endpoint in the clear": _offers(token_endpoint="http://login.example.org/token"),
    "a script as endpoint": _offers(authorization_endpoint="javascript:alert(1)"),
    "no way to sign": _offers(id_token_signing_alg_values_supported=["none", "HS256"]),
    "a secret among the keys": lambda provider: provider.keys.__setitem__(0, {"kty": "oct", "k": "AAAA", "kid": "one"}),
}


async def claims_of(provider: HostileProvider, asked: OidcProvider | None = None) -> dict[str, Any]:
    """What is believed of a person who was at the provider."""
    asked = asked or OidcProvider(OidcSetting(**oidc(provider.issuer)["oidc"]), SystemClock())
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    redirect = "http://127.0.0.1/back"
    provider.authorized(await asked.address(redirect=redirect, state="s", nonce="n", challenge=challenge))
    return await asked.claims(code="abc", redirect=redirect, verifier=verifier, nonce="n")


@pytest.mark.parametrize("lie", LIES)
async def test_what_a_provider_should_not_say_is_not_believed(lie: str) -> None:
    async with HostileProvider().running() as provider:
        assert (await claims_of(provider))["sub"] == "mallory"
        LIES[lie](provider)
        with pytest.raises(ProviderFailed):
            await claims_of(provider)


@pytest.mark.parametrize("name", ["two", "one", None])
async def test_a_provider_that_changes_its_keys_is_asked_for_them_once_and_signs_in_as_before(name: str | None) -> None:
    clock = ManualClock(SystemClock().now())
    new = RSAKey.generate_key(2048, parameters=None if name is None else {"kid": name})
    header = {"alg": "RS256"} if name is None else {"alg": "RS256", "kid": name}
    async with HostileProvider().running() as provider:
        asked = OidcProvider(OidcSetting(**oidc(provider.issuer)["oidc"]), clock)
        for _ in range(2):
            assert (await claims_of(provider, asked))["sub"] == "mallory"
        assert provider.asked_for_keys == 1

        provider.sign = lambda claims: jwt.encode(header, claims, new)
        clock.advance(31)
        for _ in range(3):  # signed with a key that it does not name
            with pytest.raises(ProviderFailed):
                await claims_of(provider, asked)
        assert provider.asked_for_keys == 2

        provider.keys = [new.as_dict(private=False)]
        with pytest.raises(ProviderFailed):  # it was asked a moment ago
            await claims_of(provider, asked)
        clock.advance(31)
        for _ in range(2):
            assert (await claims_of(provider, asked))["sub"] == "mallory"
        assert provider.asked_for_keys == 3

        provider.sign = signed
        with pytest.raises(ProviderFailed):  # the old key is not one of its keys any more
            await claims_of(provider, asked)
        assert provider.asked_for_keys == 3


@pytest.mark.parametrize(
    "lie",
    [_signed(altered), _claims(sub=None), _claims(sub="ann telegram:7"), _offers(issuer="http://127.0.0.1:1")],
    ids=["exchanged claims", "nobody", "two names", "mixed up"],
)
async def test_who_is_not_believed_is_not_signed_in(tmp_path: Path, lie: Callable[[HostileProvider], None]) -> None:
    async with HostileProvider().running() as provider, page_of(tmp_path / "data", provider.issuer) as site:
        lie(provider)
        async with browser(site) as client:
            status, _, headers = await client.get("/sign-in/provider")
            if status == 303:
                status, _ = await back(client, provider.authorized(headers["Location"]))
            assert status == 502
            assert await site.host.do("web.list") == []
            assert await site.host.do("user.list") == []
            assert (await client.get("/chat"))[0] == 303


async def test_an_answer_is_good_once_in_the_browser_that_asked_and_from_the_provider_that_was_asked(
    tmp_path: Path,
) -> None:
    async with (
        HostileProvider().running() as provider,
        page_of(tmp_path / "data", provider.issuer) as site,
        browser(site) as client,
        browser(site) as victim,
    ):
        answer = provider.authorized(await to_provider(client))
        assert provider.asked["code_challenge_method"] == "S256"
        await to_provider(victim)
        assert (await back(victim, answer))[0] == 403  # an answer for the attacker's browser (login CSRF)
        assert (await back(client, answer))[0] == 403  # which has used it up
        answer = provider.authorized(await to_provider(client))
        assert (await back(client, f"{answer}&iss=http://127.0.0.1:1"))[0] == 502  # RFC 9207
        answer = provider.authorized(await to_provider(client))
        assert (await back(client, f"{answer}&iss={provider.issuer}"))[0] == 200
        assert (await back(client, answer))[0] == 403
        for query in ("", "?state=&code=abc", "?state=x&code=abc", "?error=access_denied", "?state=%00&iss=%00"):
            assert (await client.get(f"/sign-in/provider/back{query}"))[0] == 403, query
        refused = provider.authorized(await to_provider(victim)).replace("code=abc", "error=access_denied")
        assert "did not sign you in" in (await back(victim, refused))[1]
        assert len(await site.host.do("web.list")) == 1
        assert len(set(provider.verifiers)) == len(provider.verifiers)


async def test_an_answer_that_should_say_whose_it_is_and_does_not_is_not_taken(tmp_path: Path) -> None:
    async with (
        HostileProvider().running() as provider,
        page_of(tmp_path / "data", provider.issuer) as site,
        browser(site) as client,
    ):
        provider.metadata = {"authorization_response_iss_parameter_supported": True}
        assert (await back(client, provider.authorized(await to_provider(client))))[0] == 502


async def test_what_the_token_leaves_out_is_asked_for(tmp_path: Path) -> None:
    async with (
        HostileProvider().running() as provider,
        page_of(tmp_path / "data", provider.issuer) as site,
        browser(site) as client,
    ):
        provider.claims, provider.more = {"groups": None}, {"sub": "mallory", "groups": ["boss"], "iss": "x"}
        assert (await back(client, provider.authorized(await to_provider(client))))[0] == 200
        assert (await client.get("/"))[0] == 200


@pytest.mark.parametrize(
    ("claims", "roles"),
    [
        ({"sub": "7", "groups": ["staff", "x", 5]}, {("member", "assistant")}),
        ({"sub": "7", "groups": "boss"}, {("owner", None)}),
        ({"sub": "7", "realm": {"roles": ["boss"]}}, set()),
        ({"sub": "7", "email": "Ann@Example.org", "email_verified": True}, {("admin", None)}),
        ({"sub": "7", "email": "ann@example.org"}, set()),
        ({"sub": "7", "email": "ann@example.org", "email_verified": "true"}, set()),
        ({"sub": "ann@example.org"}, set()),
        ({"sub": "12345"}, {("admin", "other"), ("member", None)}),
        ({"sub": "7", "groups": {"boss": True}}, set()),
    ],
)
def test_roles_follow_from_groups_ids_and_verified_addresses(claims: dict[str, Any], roles: set[Any]) -> None:
    people = {"ann@example.org": ("admin",), "12345": ("admin:other", "member")}
    groups = {"staff": ("member:assistant",), "boss": ("owner",)}

    assert roles_for(claims, claim="groups", groups=groups, people=people) == roles


def test_a_claim_may_lie_inside_another_one() -> None:
    claims = {"realm_access": {"roles": ["boss"]}}

    assert roles_for(claims, claim="realm_access.roles", groups={"boss": ("owner",)}, people={}) == {("owner", None)}


def test_no_person_of_one_provider_is_one_of_another() -> None:
    assert handle("https://login.example.org/realms/a", "owner") == "owner@login.example.org/realms/a"
    assert handle("https://login.example.org", "x@login.example.org/realms") != handle(
        "https://login.example.org/realms", "x"
    )
    for subject in (None, "", 7, "a b", "a\u202eb", "a" * 300):
        assert handle("https://login.example.org", subject) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://login.example.org"}, {"issuer": "ftp://login.example.org"},
        {"issuer": "https://user:pass@login.example.org"}, {"groups": {"staff": "king"}},
        {"people": {"ann": "owner:assistant"}}, {"hours": 0}, {"client_id": ""},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OidcSetting(**{"issuer": "https://login.example.org", "client_id": "x", **wrong})


def test_the_secret_is_shown_nowhere() -> None:
    setting = OidcSetting(issuer="https://login.example.org", client_id="x", client_secret="s3cret")  # type: ignore[arg-type]

    assert "s3cret" not in repr(setting)
