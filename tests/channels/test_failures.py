"""FAILURES 8, 17 to 22, 27, 28, 41 to 46 on real channels: from the platform's socket, through a real host, and back.

Each is tested at its own place with a platform in memory, at length; here once more as people would meet it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from host.channels.discord import TYPE as DISCORD
from host.channels.slack import TYPE as SLACK
from host.channels.telegram import TYPE as TELEGRAM
from tests.channels.contract import Arrived, Fault, PlatformFake, Subject
from tests.channels.test_discord_contract import DiscordPlatform
from tests.channels.test_slack_contract import SlackPlatform
from tests.channels.test_telegram_contract import Telegram
from tests.faults.test_attachments import NAMES, TRICKS
from tests.platforms.telegram import ANN, GROUP, TelegramServer, telegram_server
from tests.support.host import AGENT, Host, rows, running
from tests.support.script import script
from tests.support.wait import until

BOB = {"id": 1002, "is_bot": False, "first_name": "Bob", "username": "bob"}
OLGA = {"id": 1003, "is_bot": False, "first_name": "Olga", "username": "olga"}
SECONDS = 60.0


@pytest.fixture(params=["telegram", "slack", "discord"])
def subject(request: pytest.FixtureRequest) -> Subject:
    match request.param:
        case "telegram":
            return Subject(Telegram(), kind=TELEGRAM)
        case "slack":
            return Subject(SlackPlatform(), kind=SLACK)
        case _:
            return Subject(DiscordPlatform(), kind=DISCORD)


@asynccontextmanager
async def host_on(subject: Subject, data: Path, *, provider: str = "scripted") -> AsyncIterator[Host]:
    """A host whose agent answers everybody in the chat of a platform that serves."""
    assert subject.kind is not None
    await subject.platform.start()
    channels = {subject.name: {"type": subject.kind.name, **subject.platform.settings()}}
    async with running(data, channels=channels, provider=provider) as host:
        await register(host, f"{subject.name}:{subject.platform.chat}", is_group=True, unknown_sender="public")
        await until(lambda: state(host, subject.name) == "connected", "it is connected", SECONDS)
        yield host
    await subject.platform.stop()


async def register(host: Host, address: str, *, wiring: dict[str, Any] | None = None, **rule: Any) -> None:
    await host.do("messaging_group.add", address=address, **rule)
    await host.do("wiring.add", messaging_group=address, agent_group=AGENT, **(wiring or {}))


def state(host: Host, name: str) -> str:
    return str(next(each["state"] for each in host.services.running.states() if each["name"] == name))


async def texts(platform: PlatformFake, count: int) -> list[str]:
    """What the bot has said, once there is so much of it."""
    found: list[Arrived] = []

    async def are_there() -> bool:
        found[:] = await platform.arrived()
        return len(found) >= count

    await until(are_there, f"{count} messages of {found}", SECONDS)
    return [each.text for each in found]


# --- delivery ---


async def test_failure_8_a_message_that_the_platform_sends_twice_is_answered_once(
    subject: Subject, tmp_path: Path
) -> None:
    async with host_on(subject, tmp_path) as host:
        await subject.platform.fault(Fault.TWICE)
        await subject.platform.write("once")
        await subject.platform.write("then")
        await texts(subject.platform, 2)
        await host.settled()
        assert await texts(subject.platform, 2) == ["scripted: once", "scripted: then"]


async def test_failure_17_an_answer_is_held_up_by_an_outage_and_not_given_up(subject: Subject, tmp_path: Path) -> None:
    """It is tried more often than three times, and comes once when the platform is back."""
    async with host_on(subject, tmp_path) as host:
        await subject.platform.write("think 0.3")
        await until(lambda: host.central("SELECT 1 FROM ingest"), "it is accepted")
        await subject.platform.stop()
        tried = "SELECT 1 FROM deliveries WHERE attempts > 4 AND status IN ('pending', 'sending')"
        await until(lambda: host.central(tried), "it was tried often", SECONDS)
        await subject.platform.start()
        host.services.running.try_again(subject.name)
        assert await texts(subject.platform, 1) == ["thought for 0.3 s"]
        await host.settled()
        assert len(await texts(subject.platform, 1)) == 1


async def test_failure_18_without_its_channel_an_answer_waits_and_is_not_called_delivered(
    subject: Subject, tmp_path: Path
) -> None:
    async with host_on(subject, tmp_path) as host:
        await subject.platform.write("think 0.3")
        await until(lambda: host.central("SELECT 1 FROM ingest"), "it is accepted")
        table = host.services.running.table(subject.name)
        assert table is not None
        await host.services.running.remove(subject.name)
        await until(lambda: host.central("SELECT 1 FROM deliveries WHERE attempts > 0"), "it was tried", SECONDS)
        assert await host.central("SELECT status FROM deliveries WHERE status NOT IN ('pending', 'sending')") == []
        await host.services.running.put(subject.name, table)
        assert await texts(subject.platform, 1) == ["thought for 0.3 s"]


async def test_failure_20_what_a_conversation_says_after_it_was_left_is_not_sent(
    subject: Subject, tmp_path: Path
) -> None:
    async with host_on(subject, tmp_path) as host:
        await subject.platform.write("think 1")
        await until(lambda: host.central("SELECT 1 FROM turns"), "a turn runs", SECONDS)
        await subject.platform.write("/new")
        await texts(subject.platform, 1)
        await subject.platform.write("hello")
        await texts(subject.platform, 2)
        await host.settled()
        begun, answer = await texts(subject.platform, 2)
        assert begun.startswith("A new conversation begins.")
        assert answer == "scripted: hello"


async def test_failure_21_long_text_comes_in_parts_and_no_block_of_code_breaks(
    subject: Subject, tmp_path: Path
) -> None:
    """Every part fits, and what stands in the blocks is all of the code."""
    code = [f"print({number:04d})  # a line of the program" for number in range(250)]
    async with host_on(subject, tmp_path, provider="echo") as host:
        await subject.platform.write("\n".join(["before", "```python", *code, "```", "after"]))
        await until(lambda: host.central("SELECT 1 FROM deliveries WHERE status = 'delivered'"), "it is sent", SECONDS)
        parts = await texts(subject.platform, 2)
    assert [line for part in parts for line in part.splitlines() if line.startswith("print(")] == code
    fences = [part.count("```") for part in parts]
    assert all(count % 2 == 0 for count in fences), fences


async def test_failure_22_what_a_tool_has_said_is_not_said_again_as_the_answer(
    subject: Subject, tmp_path: Path
) -> None:
    async with host_on(subject, tmp_path) as host:
        await subject.platform.write('call send_message {"text": "soup 1"}\nreply 1 soup')
        await texts(subject.platform, 2)
        await host.settled()
        assert (await texts(subject.platform, 2)).count("soup 1") == 1


async def test_failure_27_a_word_that_begins_like_a_command_is_none(subject: Subject, tmp_path: Path) -> None:
    async with host_on(subject, tmp_path) as host:
        await subject.platform.write("hello")
        await texts(subject.platform, 1)
        await subject.platform.write("/newspaper")
        assert (await texts(subject.platform, 2))[1] == "scripted: /newspaper"
        assert len(await host.do("session.list")) == 1


# --- Telegram, with several people in several chats ---


@pytest.fixture
async def server() -> AsyncIterator[TelegramServer]:
    async with telegram_server() as server:
        for person in (ANN, BOB, OLGA):
            server.chat(person["id"], first_name=person["first_name"])
        server.chat(GROUP)
        yield server


@asynccontextmanager
async def telegram_host(server: TelegramServer, data: Path, **more: Any) -> AsyncIterator[Host]:
    settings = {"token": server.token, "api_url": server.url, "poll_seconds": 3.0, "timeout_seconds": 5.0}
    async with running(data, channels={"telegram": settings}, **more) as host:
        yield host


def said_in(server: TelegramServer, chat: int) -> list[dict[str, Any]]:
    return [message for message in server.sent if message["chat"]["id"] == chat]


async def test_failure_19_an_answer_goes_where_it_was_asked_whoever_spoke_last(
    server: TelegramServer, tmp_path: Path
) -> None:
    """Both chats are in one conversation."""
    async with telegram_host(server, tmp_path) as host:
        for chat in (1001, 1002):
            shared = {"session_mode": "agent-shared"}
            await register(host, f"telegram:{chat}", unknown_sender="public", wiring=shared)
        server.say("think 0.5", chat=1001)
        await until(lambda: host.central("SELECT 1 FROM turns"), "a turn runs", SECONDS)
        server.say("hello", chat=1002, sender=dict(BOB))
        await server.wait_for(2, SECONDS)
        assert len(await host.do("session.list")) == 1
    assert [message["text"] for message in said_in(server, 1001)] == ["thought for 0.5 s"]
    assert [message["text"] for message in said_in(server, 1002)] == ["scripted: hello"]


async def test_failure_28_in_a_group_each_message_says_who_speaks_and_the_context_names_nobody(
    server: TelegramServer, tmp_path: Path
) -> None:
    async with telegram_host(server, tmp_path) as host:
        await register(host, f"telegram:{GROUP}", is_group=True, unknown_sender="public")
        blocks = []
        for number, person in enumerate((ANN, BOB), 1):
            server.say("hear", chat=GROUP, sender=dict(person))
            await server.wait_for(number, SECONDS)
            await host.settled()
            inbound = (await host.session()).inbound
            blocks.append(rows(inbound, "SELECT value FROM session_context WHERE key = 'context'")[0]["value"])
    assert [message["text"] for message in server.sent] == ["heard Ann: hear", "heard Bob: hear"]
    assert blocks[0] == blocks[1]
    assert not any(name in blocks[0] for name in ("Ann", "Bob"))


# --- access ---


@asynccontextmanager
async def knocking(server: TelegramServer, data: Path, text: str) -> AsyncIterator[tuple[Host, dict[str, Any]]]:
    """Olga is the owner, and Bob, whom nobody knows, has written to the bot: the card that Olga gets."""
    async with telegram_host(server, data) as host:
        await host.do("role.grant", user="telegram:1003", role="owner")
        await register(host, "telegram:1002")
        server.say(text, chat=1002, sender=dict(BOB))
        await until(lambda: said_in(server, 1003), "the owner is asked", SECONDS)
        yield host, said_in(server, 1003)[0]


async def test_failure_41_who_is_not_the_owner_may_not_press_the_owners_button(
    server: TelegramServer, tmp_path: Path
) -> None:
    async with knocking(server, tmp_path, "good morning") as (host, card):
        confirmed = server.confirmed
        server.click(card, 0, sender=dict(BOB), click_id="1")
        await server.until(lambda: server.confirmed > confirmed)
        assert (await host.do("approval.list"))[0]["state"] == "pending"
        server.click(card, 0, sender=dict(OLGA), click_id="2")
        answer = "scripted: good morning"
        await until(lambda: answer in [message["text"] for message in said_in(server, 1002)], "he is let in", SECONDS)


async def test_failure_42_the_card_shows_who_it_is_where_and_what_they_wrote(
    server: TelegramServer, tmp_path: Path
) -> None:
    written = "[my owner](https://evil.test/x_y) gives ~~no~~ *all* the `money` &lt; <b>"
    async with knocking(server, tmp_path, written) as (host, card):
        for part in ("telegram:1002", "Bob", AGENT, written):
            assert part in card["text"], card["text"]
        server.click(card, 0, sender=dict(OLGA))
        await until(lambda: "Approved by" in card["text"], "the card says so", SECONDS)
        assert written in card["text"]
        await host.settled()


async def test_failure_43_a_stranger_in_a_strict_group_leaves_no_user_no_session_and_no_context(
    server: TelegramServer, tmp_path: Path
) -> None:
    async with telegram_host(server, tmp_path) as host:
        await host.do("user.add", user="telegram:1001")
        await host.do("role.grant", user="telegram:1001", role="member", agent_group=AGENT)
        heard = {"engage": "pattern", "pattern": "^hear", "non_engaging": "accumulate"}
        await register(host, f"telegram:{GROUP}", is_group=True, unknown_sender="strict", wiring=heard)
        for text in ("hear", "what I say is heard by nobody"):
            server.say(text, chat=GROUP, sender=dict(BOB))
        await server.until(lambda: server.confirmed >= 2, SECONDS)
        counts = [await host.central(f"SELECT count(*) AS n FROM {table}") for table in ("sessions", "ingest")]
        assert counts == [[{"n": 0}], [{"n": 0}]]
        assert await host.central("SELECT id FROM users WHERE id LIKE '%1002'") == []
        assert await host.central("SELECT sum(times) AS n FROM dropped_messages") == [{"n": 2}]
        server.say("hear", chat=GROUP)
        await server.wait_for(1, SECONDS)
        inbound = (await host.session()).inbound
        assert len(rows(inbound, "SELECT 1 FROM messages_in")) == 1
    assert [message["text"] for message in server.sent] == ["heard Ann: hear"]


async def test_failure_44_a_rule_that_cannot_be_read_or_never_ends_engages_nothing_and_holds_up_nobody(
    server: TelegramServer, tmp_path: Path
) -> None:
    """The rules are put into the database behind the check, as an older version may have left them."""
    async with telegram_host(server, tmp_path) as host:
        for chat, pattern in ((1001, "((("), (1002, "^(a+)+$")):
            rule = {"engage": "pattern", "pattern": "^never"}
            await register(host, f"telegram:{chat}", unknown_sender="public", wiring=rule)
            await host.services.central.write(
                lambda c, pattern=pattern: c.execute(
                    "UPDATE wirings SET pattern = ? WHERE pattern = '^never'", (pattern,)
                )
            )
        await register(host, "telegram:1003", unknown_sender="public")
        server.say("(((", chat=1001)
        server.say("a" * 40 + "b", chat=1002, sender=dict(BOB))
        server.say("hello", chat=1003, sender=dict(OLGA))
        await server.until(lambda: server.confirmed >= 3, SECONDS)
        await server.wait_for(1, SECONDS)
        await host.settled()
    assert [(message["chat"]["id"], message["text"]) for message in server.sent] == [(1003, "scripted: hello")]


# --- files ---


async def test_failure_45_whatever_a_file_is_called_it_lands_in_the_inbox_of_its_message(
    server: TelegramServer, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with telegram_host(server, data) as host:
        await register(host, "telegram:1001", unknown_sender="public")
        for number, name in enumerate(NAMES):
            server.say(None, document=server.file(f"file {number}".encode(), file_name=name), caption="look")
        await until(lambda: host.central("SELECT 1 FROM ingest WHERE position = ?", len(NAMES)), "all came", SECONDS)
        await host.settled()
        layout = await host.session()
        contents = [path.read_text() for path in layout.inbox.glob("*/*")]
        assert sorted(contents) == sorted(f"file {number}" for number in range(len(NAMES)))
        assert [path for path in data.rglob("*") if path.is_file() and path.read_bytes().startswith(b"file ")
                and layout.inbox not in path.parents] == []  # fmt: skip


@pytest.mark.parametrize("trick", ["a link to a file of the host", "a path upwards", "an absolute path", "a device"])
async def test_failure_46_no_file_of_the_host_is_sent_for_a_hostile_agent(
    server: TelegramServer, tmp_path: Path, trick: str
) -> None:
    prepare, name = TRICKS[trick]
    secret = tmp_path / "secret"
    secret.write_text("the host's own words")
    lines = f"""
secret = {str(secret)!r}

def answer(message, text):
    id = new("msg")
    box = OUT + "/outbox/" + id
    os.makedirs(box)
    {prepare}
    content = json.dumps({{"text": "look", "files": [{name}]}})
    write(row(message, "", id=id, content=content))
    reply(message, "ok: " + text)
"""
    async with telegram_host(server, tmp_path / "data", command=script(tmp_path, lines)) as host:
        await register(host, "telegram:1001", unknown_sender="public")
        server.say("hello")
        await until(lambda: "ok: hello" in [message.get("text") for message in server.sent], "it answers", SECONDS)
        await host.settled()
    assert [call for call in server.calls if call.files] == []
    assert not any("the host's own words" in str(message) for message in server.sent)
