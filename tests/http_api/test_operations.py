"""Every operation over HTTP: typed by its signature, within the rights of the token, and done once for each key."""

from __future__ import annotations

from typing import Any

import pytest

from host.http_api.openapi import document
from host.http_api.operations_api import NOT_OFFERED, path_of
from host.operations.registry import OPERATIONS, only_looks
from tests.http_api.programs import Api, Program
from tests.support.host import AGENT


async def begun(api: Api) -> str:
    """The id of a session in a chat that no program sees."""
    await api.host.ask("the secret word is xyzzy")
    await api.host.settled()
    (session,) = await api.host.do("session.list")
    return str(session["id"])


def test_every_operation_has_its_path_and_is_described() -> None:
    paths = document()["paths"]

    for name in OPERATIONS.keys() - NOT_OFFERED:
        described = paths[path_of(name)]["get" if only_looks(name) else "post"]
        assert described["operationId"] == name
        assert described["summary"], name


async def test_operations_do_what_the_command_line_does(api: Api) -> None:
    async with api.program(rights="admin") as program:
        status, made = await program.post("/api/agent_group/add", {"name": "other", "provider": "scripted"})
        assert (status, made["name"]) == (200, "other")
        status, listed = await program.get("/api/agent_group/list")
        assert [each["name"] for each in listed] == [AGENT, "other"]
        session = await begun(api)
        assert (await program.get("/api/session/list?limit=1&unread=false"))[1][0]["id"] == session
        assert (await program.post("/api/session/title", {"session": session, "title": "Sea"}))[0] == 200
        status, found = await program.get("/api/session/search?query=xyzzy&scope=messages")
        assert (status, "xyzzy" in str(found)) in ((200, True), (400, False))
        assert (await program.get("/api/status"))[0] == 200
        status, lines = await program.get(f"/api/session/export?session={session}")
        assert (status, "xyzzy" in lines) == (200, True)
        assert (await program.get("/api/event/list?limit=3"))[0] == 200
        entries = await api.host.do("audit.list", action="session.title")
        assert [each["who"] for each in entries] == ["token app"]


async def test_what_is_wrong_is_said_with_what_to_do(api: Api) -> None:
    async with api.program(rights="admin") as program:
        for method, path, body, status in (
            ("GET", "/api/session/list?limit=many", None, 400),
            ("GET", "/api/session/list?limit=1&limit=2", None, 400),
            ("GET", "/api/session/list?wrong=1", None, 400),
            ("GET", "/api/session/show", None, 400),
            ("GET", "/api/session/show?session=nothing", None, 404),
            ("POST", "/api/session/show", {}, 405),
            ("GET", "/api/session/title", None, 405),
            ("POST", "/api/session/title", {"session": 7}, 400),
            ("POST", "/api/session/title", {"session": "x", "files": []}, 400),
            ("POST", "/api/session/title?session=x", {}, 400),
            (
                "POST",
                "/api/message/inject",
                {"messaging_group": "memory:one", "text": "x", "files": ["/etc/passwd"]},
                400,
            ),
            ("POST", "/api/agent_group/add", {"name": AGENT}, 409),
            ("GET", "/api/nothing", None, 404),
            ("POST", "/api/session/import", {"path": "/etc/passwd"}, 404),
        ):
            got, problem, headers = await program.ask(method, path, body)
            assert (got, problem["status"]) == (status, status), (path, problem)
            assert headers["Content-Type"].startswith("application/problem+json")
            assert problem["detail"], path
        _, problem = await program.get("/api/session/show?session=nothing")
        assert "session list" in problem["next"]


async def test_a_token_of_one_agent_sees_nothing_of_another(api: Api) -> None:
    session = await begun(api)
    await api.host.do("agent_group.add", name="other", provider="scripted")
    await api.host.do("destination.add", agent_group=AGENT, name="one", messaging_group="memory:one")
    await api.host.do("schedule.add", agent_group=AGENT, when="every 1h", prompt="xyzzy", name="plan", to="one")
    for rights in ("read", "talk", "admin"):
        async with api.program(f"a{rights}", agent_group="other", rights=rights) as program:
            seen = ""
            for path in (
                "/api/agent_group/list", f"/api/agent_group/show?name={AGENT}", "/api/session/list",
                f"/api/session/list?agent_group={AGENT}", f"/api/session/show?session={session}",
                f"/api/session/transcript?session={session}", f"/api/session/logs?session={session}",
                f"/api/session/sql?session={session}&query=select+1", f"/api/session/export?session={session}",
                "/api/session/export", "/api/session/search?query=xyzzy",
                f"/api/session/search?query=xyzzy&session={session}",
                f"/api/session/search?query=xyzzy&agent_group={AGENT}",
                "/api/schedule/list", "/api/schedule/show?name=plan", f"/api/schedule/list?agent_group={AGENT}",
                "/api/schedule/log", "/api/usage", f"/api/usage?agent_group={AGENT}", f"/api/usage?session={session}",
                "/api/event/list", f"/api/event/list?session={session}", f"/api/events?session={session}",
                "/api/status",
                "/api/audit/list", "/api/token/list", "/api/web/list", "/api/approval/list", "/api/wiring/list",
                "/api/messaging_group/list", "/api/user/list", "/api/dropped/list", "/api/doctor/examine",
            ):  # fmt: skip
                status, body = await program.get(path)
                assert status in (200, 403, 404), (path, status, body)
                seen += str(body) if status == 200 else ""
            for path, body in (
                ("/api/session/title", {"session": session, "title": "mine"}),
                ("/api/session/stop", {"session": session}),
                ("/api/session/delete", {"session": session, "for_good": True}),
                ("/api/session/new", {"messaging_group": "memory:one"}),
                ("/api/session/resume", {"session": session}),
                ("/api/schedule/pause", {"name": "plan"}),
                ("/api/schedule/pause", {"name": "plan", "agent_group": AGENT}),
                ("/api/schedule/add", {"agent_group": AGENT, "when": "every 1h", "prompt": "x"}),
                ("/api/agent_group/set", {"name": AGENT, "model": "x"}),
                ("/api/agent_group/set", {"name": "other", "budget_usd": 1000.0}),
                ("/api/token/add", {"name": "more"}),
                ("/api/web/link", {}),
                ("/api/role/grant", {"user": "web:eve", "role": "owner"}),
                ("/api/message/inject", {"messaging_group": "memory:one", "text": "x"}),
                ("/api/runs", {"agent_group": AGENT, "text": "x"}),
                ("/v1/responses", {"model": AGENT, "input": "x"}),
            ):
                status, answer = await program.post(path, body)
                assert status in (403, 404), (path, status, answer)
            for word in ("xyzzy", session, AGENT):
                assert word not in seen, (rights, word)


async def test_a_token_that_talks_sees_its_own_conversations_alone(api: Api) -> None:
    session = await begun(api)
    async with api.program("ann") as ann, api.program("bob") as bob:
        own = (await ann.post("/v1/responses", {"model": AGENT, "input": "of ann"}))[1]["session_id"]
        assert [each["id"] for each in (await ann.get("/api/session/list"))[1]] == [own]
        assert (await bob.get("/api/session/list"))[1] == []
        assert (await ann.get(f"/api/session/transcript?session={own}"))[0] == 200
        assert (await ann.post("/api/session/title", {"session": own, "title": "mine"}))[0] == 200
        for program, other in ((ann, session), (bob, own)):
            assert (await program.get(f"/api/session/show?session={other}"))[0] == 404
            assert (await program.post("/api/session/undo", {"session": other}))[0] == 404
        assert (await ann.post("/api/session/delete", {"session": own}))[0] == 403
        assert (await ann.get("/api/session/search?query=xyzzy"))[0] == 403


async def test_a_token_that_reads_changes_nothing(api: Api) -> None:
    session = await begun(api)
    async with api.program(rights="read") as program:
        assert (await program.get(f"/api/session/show?session={session}"))[0] == 200
        for name in OPERATIONS.keys() - NOT_OFFERED:
            if not only_looks(name):
                status, _ = await program.post(path_of(name), {})
                assert status in (400, 403), name
        assert (await program.get("/api/terminal/unread"))[0] == 403


async def keyed(program: Program, path: str, body: Any, key: str) -> tuple[int, Any, Any]:
    return await program.ask("POST", path, body, **{"Idempotency-Key": key})


async def test_what_comes_twice_with_a_key_is_done_once(api: Api) -> None:
    async with api.program(rights="admin") as program:
        first = await keyed(program, "/api/agent_group/add", {"name": "one", "provider": "scripted"}, "k1")
        again = await keyed(program, "/api/agent_group/add", {"name": "one", "provider": "scripted"}, "k1")
        assert first[0] == again[0] == 200
        assert first[1] == again[1]
        assert again[2]["Idempotency-Replayed"] == "true"
        assert (await keyed(program, "/api/agent_group/add", {"name": "two"}, "k1"))[0] == 409
        failed = await keyed(program, "/api/agent_group/add", {"name": "one"}, "k2")
        assert (failed[0], (await keyed(program, "/api/agent_group/add", {"name": "one"}, "k2"))[1]) == (409, failed[1])
        assert (await keyed(program, "/api/session/prune", {"older_than_days": 1.0}, "k" * 201))[0] == 400
        made = await keyed(program, "/api/token/add", {"name": "more"}, "k3")
        assert made[0] == 200
        assert (await keyed(program, "/api/token/add", {"name": "more"}, "k3"))[0] == 409
        assert made[1]["token"] not in str(await api.host.central("SELECT * FROM keyed_calls"))
    async with api.program("other", rights="admin") as other:  # keys are the caller's own
        assert (await keyed(other, "/api/agent_group/add", {"name": "one"}, "k1"))[0] == 409


async def test_a_call_whose_host_died_is_not_done_again(api: Api) -> None:
    """What was begun, and never ended."""
    async with api.program(rights="admin") as program:
        body = {"name": "one", "provider": "scripted"}
        await keyed(program, "/api/agent_group/add", body, "k1")
        await api.host.services.central.write(
            lambda tx: tx.execute("UPDATE keyed_calls SET status = NULL, answer = NULL")
        )
        status, problem, _ = await keyed(program, "/api/agent_group/add", body, "k1")

    assert (status, problem["code"]) == (409, "key_begun")


@pytest.mark.parametrize("path", ["/api/openapi.json", "/api/status"])
async def test_nothing_is_told_without_a_token(api: Api, path: str) -> None:
    async with api.stranger() as stranger:
        status, problem, headers = await stranger.ask("GET", path)

    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "token add" in problem["next"]
