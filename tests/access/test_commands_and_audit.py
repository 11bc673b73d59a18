"""Commands by role, and the audit log of everything that people change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host.central.audit import Actor, acting
from host.operations.command_admin import parsed_budget
from host.operations.registry import OPERATIONS, changes
from shared_schema.errors import DumbwaiterError
from tests.access.people import OWNER, chat, owner, said_in, write
from tests.support.host import AGENT, Host, running


async def told(host: Host, text: str, sender: str) -> str:
    """What the host answers to a command in the group."""
    count = len([m for m in host.channel.sent if m.address.platform_id == "team"])
    await write(host, text, where="team", sender=sender)
    return (await said_in(host, "team", count + 1))[count].text


async def test_admins_change_the_model_and_the_budget_from_the_chat_and_others_do_not(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "team", is_group=True, unknown_sender="public")
        for command in ("/model", "/model other", "/budget 1"):
            assert (await told(host, command, "sam")).startswith("Only the owner, or an admin of assistant, can use /")
        assert (await told(host, "/budget 5 day", "olga")).startswith("The budget of assistant is $5.00 a day.")
        assert (await told(host, "/budget off", "olga")) == "assistant has no budget now."
        assert "provider scripted" in await told(host, "/model", "olga")
        await host.do("role.grant", user="memory:adam", role="admin", agent_group=AGENT)
        assert (await told(host, "/budget 7", "adam")).startswith("The budget of assistant is $7.00")
        entries = await host.do("audit.list", action="agent_group")
        assert [(each["who"], each["from"], each["after"]["budget_usd"]) for each in entries[:3]] == [
            ("memory:adam", "memory:team", 7.0),
            (OWNER, "memory:team", None),
            (OWNER, "memory:team", 5.0),
        ]
        assert entries[1]["before"] == {"budget_usd": 5.0}


async def test_whoami_says_who_one_is(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "team", is_group=True, unknown_sender="public")
        assert await told(host, "/whoami", "olga") == "You are memory:olga: owner."
        assert await told(host, "/whoami", "sam") == "You are memory:sam. This host does not know you."
        await host.do("role.grant", user="memory:sam", role="member", agent_group=AGENT)
        assert await told(host, "/whoami", "sam") == "You are memory:sam: member of assistant."


async def test_a_word_that_only_begins_like_a_command_is_text(tmp_path: Path) -> None:
    """FAILURES 27."""
    async with running(tmp_path) as host:
        await owner(host)
        await chat(host, "team", is_group=True, unknown_sender="public")
        for text in ("/approved ABCDEF", "/models", "/whoamix"):
            assert await told(host, text, "olga") == f"scripted: {text}"


async def test_in_a_shared_thread_the_context_names_nobody_whoever_speaks(tmp_path: Path) -> None:
    """FAILURES 28."""
    async with running(tmp_path) as host:
        await chat(host, "team", is_group=True, unknown_sender="public")
        blocks = set()
        for sender in ("ann", "bob"):
            await told(host, "hello", sender)
            await host.settled()
            from tests.support.host import rows

            folder = await host.session()
            blocks.add(rows(folder.inbound, "SELECT value FROM session_context WHERE key = 'context'")[0]["value"])
        assert len(blocks) == 1
        assert not any(name in next(iter(blocks)) for name in ("Ann", "Bob", "ann", "bob"))


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("agent_group.add", {"name": "second", "provider": "scripted"}),
    ("agent_group.set", {"name": "second", "budget_usd": 3.0}),
    ("agent_group.rename", {"name": "second", "new_name": "third"}),
    ("messaging_group.add", {"address": "memory:two", "is_group": True}),
    ("messaging_group.set", {"address": "memory:two", "unknown_sender": "public"}),
    ("wiring.add", {"messaging_group": "memory:two", "agent_group": "third"}),
    ("wiring.add", {"messaging_group": "memory:two", "agent_group": "third", "engage": "mention"}),
    ("destination.add", {"agent_group": "third", "name": "there", "messaging_group": "memory:two"}),
    ("destination.remove", {"agent_group": "third", "name": "there"}),
    ("home.set", {"agent_group": "third", "messaging_group": "memory:two"}),
    ("home.remove", {"agent_group": "third", "channel_type": "memory"}),
    ("user.add", {"user": "memory:ann"}),
    ("user.set", {"user": "memory:ann", "name": "Ann"}),
    ("user.link", {"user": "slack:U1", "same_as": "memory:ann"}),
    ("user.unlink", {"user": "slack:U1"}),
    ("role.grant", {"user": "memory:ann", "role": "admin"}),
    ("role.revoke", {"user": "memory:ann", "role": "admin"}),
    ("role.grant", {"user": "memory:ann", "role": "member", "agent_group": "third"}),
    ("user.remove", {"user": "memory:ann"}),
    ("wiring.remove", {"messaging_group": "memory:two", "agent_group": "third"}),
    ("messaging_group.remove", {"address": "memory:two"}),
    ("agent_group.remove", {"name": "third"}),
]


async def test_every_change_by_a_person_is_in_the_log_with_who_and_before_and_after(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.ask("hello")
        (session,) = await host.do("session.list")
        changes = [
            *CHANGES,
            ("session.title", {"session": session["id"], "title": "Plans"}),
            ("session.stop", {"session": session["id"]}),
            ("session.undo", {"session": session["id"]}),
            ("session.new", {"session": session["id"]}),
            ("session.resume", {"session": session["id"]}),
            ("session.archive", {"session": session["id"]}),
            ("session.delete", {"session": session["id"]}),
            ("session.restore", {"session": session["id"]}),
        ]
        before = len(await host.do("audit.list"))
        for number, (operation, parameters) in enumerate(changes, 1):
            with acting(Actor("uid 7", "command line")):
                await host.do(operation, **parameters)
            entries = await host.do("audit.list", limit=1000)
            assert len(entries) == before + number, f"{operation} is not in the log, or twice"
            assert (entries[0]["who"], entries[0]["from"]) == ("uid 7", "command line")
        changed = next(each for each in entries if each["action"] == "wiring.set")
        assert (changed["before"], changed["after"]) == ({"engage": "all"}, {"engage": "mention"})
        # What the host does by itself is nobody's change.
        await host.ask("hello again")
        await host.settled()
        assert len(await host.do("audit.list", limit=1000)) == before + len(changes)


WITHOUT_A_LINE = frozenset({"approval.approve", "approval.deny", "session.prune", "first_run"})
"""The first three call other modules, which write the lines; `first_run` is done by the host itself."""


def test_the_module_of_an_operation_that_changes_something_writes_for_the_log() -> None:
    silent = {
        name
        for name, operation in OPERATIONS.items()
        if changes(name, {}) and "audit.record" not in Path(operation.__code__.co_filename).read_text(encoding="utf-8")
    }

    assert silent == WITHOUT_A_LINE, "it calls audit.record in the transaction of its change (docs/how-to-add.md)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", (5.0, None, "month")),
        ("$2.50 day", (2.5, None, "day")),
        ("200,000 tokens total", (None, 200_000, "total")),
        ("off", (None, None, "month")),
    ],
)
def test_a_budget_is_read_as_people_write_it(text: str, expected: tuple[Any, ...]) -> None:
    assert parsed_budget(text, "month") == expected


@pytest.mark.parametrize("text", ["", "five", "-1", "0", "1 2", "tokens", "1e9", "5 week", "9" * 30, "٣"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(DumbwaiterError):
        parsed_budget(text, "month")
