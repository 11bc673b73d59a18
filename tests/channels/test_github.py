"""The channel `github` over githubkit and a fake of GitHub's API, in a real host with real agents."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from host.channels.build import settings_of
from host.channels.github import TYPE as GITHUB
from host.channels.protocol import ChannelRefused, ChannelUnavailable, DeliveryRefused, Ingest, Outgoing
from host.routing.event import Deleted, Edited, Incoming, Reacted, Receipt
from shared_schema.errors import FileTrouble, InvalidValue
from shared_schema.rows import Address
from tests.channels.open_host import ChannelHost, DyingHost, channel_host
from tests.platforms.github_api import BOT, REPOSITORY, TOKEN, GitHubApi, github_api, now_in
from tests.support.wait import until

SECRET = "canary-secret-of-the-hook"


def settings(api: GitHubApi, **more: Any) -> dict[str, Any]:
    return {"token": TOKEN, "repositories": [REPOSITORY], "api_url": api.url, "poll_seconds": 1, **more}


@pytest.fixture
async def api() -> AsyncIterator[GitHubApi]:
    async with github_api() as api:
        yield api


@pytest.fixture
async def there(api: GitHubApi, tmp_path: Path) -> AsyncIterator[ChannelHost]:
    async with channel_host(tmp_path / "data", GITHUB, settings(api, label="ask-bot"), is_started=False) as there:
        await there.register(REPOSITORY, is_group=True, engage="mention", session_mode="per-thread")
        await there.start()
        yield there


async def test_an_issue_that_mentions_the_bot_is_answered_with_a_comment(there: ChannelHost, api: GitHubApi) -> None:
    number = api.open_issue("reply 1 title", f"reply 1 pong @{BOT}")
    await api.said(f"pong @{BOT} 1")
    api.comment(number, "reply 1 nobody is meant")
    api.comment(number, f"reply 1 @{BOT.upper()}, again")
    again = await api.said(f"@{BOT.upper()}, again 1")

    assert again["issue_url"].endswith(f"/issues/{number}")
    first = there.events()[0]
    assert first.text == f"reply 1 title\n\nreply 1 pong @{BOT}"
    assert (first.address, first.sender_id) == (Address("github", REPOSITORY, str(number)), "ann")
    assert [event.is_mention for event in there.events()] == [True, False, True]


async def test_what_follows_a_long_list_is_read_though_the_beginning_of_that_has_not_changed(
    there: ChannelHost, api: GitHubApi
) -> None:
    for _ in range(100):
        api.open_issue("a title", "labelled by a machine", by=BOT)
    asked = api.polls
    await until(lambda: api.polls >= asked + 12, "they are read, and asked for again")
    api.open_issue("a title", f"pong @{BOT}")
    [event] = await there.heard(1)
    assert event.is_mention


async def test_of_more_than_is_read_at_once_the_rest_comes_next_though_another_list_has_later_news(
    there: ChannelHost, api: GitHubApi
) -> None:
    await there.close()
    number = api.open_issue("a title", "an issue of a machine", by=BOT)
    for count in range(2_001):
        identifier = api.comment(
            number, f"hello @{BOT}" if count == 2_000 else "chatter", by="ann" if count == 2_000 else BOT
        )
        api.comments[identifier] |= {"updated_at": now_in(10 + count // 10), "created_at": now_in(10 + count // 10)}
    api.issues[number] |= {"updated_at": now_in(600)}
    await there.start()
    [event] = await there.heard(1)
    assert event.text == f"hello @{BOT}"


async def test_a_label_engages_too(there: ChannelHost, api: GitHubApi) -> None:
    number = api.open_issue("reply 1 title", "reply 1 pong")
    await there.heard(1)
    api.label(number, "ask-bot")
    await api.said("pong 1")
    api.comment(number, "reply 1 more")
    await api.said("more 1")


async def test_old_issues_and_what_machines_write_are_not_answered(api: GitHubApi, tmp_path: Path) -> None:
    number = api.open_issue("old", f"reply 1 old @{BOT}")
    for each in api.issues.values():
        each |= {"created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z"}
    async with channel_host(tmp_path / "data", GITHUB, settings(api)) as there:
        await there.register(REPOSITORY, is_group=True, session_mode="per-thread")
        api.comment(number, "reply 1 machine", kind="Bot", by="ci[bot]")
        api.comment(number, "reply 1 ourselves", by=BOT)
        api.comment(number, "reply 1 person")
        await api.said("person 1")

    assert [event.text for event in there.events()] == ["reply 1 person"]


async def test_edits_are_handed_over(there: ChannelHost, api: GitHubApi) -> None:
    number = api.open_issue("title", "body")
    identifier = api.comment(number, "one")
    await there.heard(2)
    api.edit_comment(identifier, "two")
    await until(lambda: any(isinstance(each, Edited) for each in there.incoming), "the edit is heard", 60)

    edits = [each for each in there.incoming if isinstance(each, Edited)]
    assert edits == [Edited(Address("github", REPOSITORY, str(number)), f"comment-{identifier}", "two", "ann")]


async def test_a_webhook_tells_earlier_and_its_delivery_is_taken_once(api: GitHubApi, tmp_path: Path) -> None:
    number = api.open_issue("title", "body", by=BOT)
    more = settings(api, webhook_secret=SECRET, webhook_port=0, poll_seconds=3_600)
    async with channel_host(tmp_path / "data", GITHUB, more) as there:
        await there.register(REPOSITORY, is_group=True, session_mode="per-thread")
        url = f"http://127.0.0.1:{there.channel.webhook_port}/"
        identifier = api.comment(number, "reply 1 pong")
        payload = {"action": "created", "issue": api.issues[number], "comment": api.comments[identifier]}
        statuses = [
            await api.webhook(url, SECRET, "issue_comment", payload, delivery="d-1"),
            await api.webhook(url, SECRET, "issue_comment", payload, delivery="d-1"),
            await api.webhook(url, SECRET, "issue_comment", payload, delivery="d-2"),
            await api.webhook(url, "another secret than ours", "issue_comment", payload),
            await api.webhook(url, SECRET, "ping", {"zen": "x"}),
        ]
        await api.said("pong 1")
        await there.host.settled()
        statuses.append(await api.webhook(url, SECRET, "issue_comment", {**payload, "action": "deleted"}))
        async with aiohttp.ClientSession() as session, session.post(url, data=b"x" * 10) as answer:
            statuses.append(answer.status)

    assert statuses == [202, 200, 202, 401, 202, 202, 401]
    assert [each["body"].partition("\n")[0] for each in api.by_bot()] == ["pong 1"]
    assert Deleted(Address("github", REPOSITORY, str(number)), f"comment-{identifier}") in there.incoming


async def test_a_host_that_dies_before_its_place_moves_knows_the_comment_when_it_comes_again(
    api: GitHubApi, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    number = api.open_issue("title", "body", by=BOT)
    async with DyingHost(data, "github", settings(api), REPOSITORY) as dying:
        api.comment(number, "reply 1 once")
        await dying.dead()
    async with channel_host(data, GITHUB, settings(api)) as there:
        api.comment(number, "reply 1 then")
        await api.got(2)
        await there.heard(2)
        await there.host.settled()

    assert sorted(each["body"].partition("\n")[0] for each in api.by_bot()) == ["once 1", "then 1"]


async def test_a_comment_that_github_took_before_the_connection_broke_is_known_by_its_mark(
    there: ChannelHost, api: GitHubApi
) -> None:
    number = api.open_issue("", f"reply 1 @{BOT}")
    api.drops_after = 1
    await there.answered(1)
    await there.host.settled()
    here = Address("github", REPOSITORY, str(number))
    first = await there.channel.deliver(Outgoing("key", here, "chat", "hello"))
    again = await there.channel.deliver(Outgoing("key", here, "chat", "hello"))
    opened = await there.channel.deliver(
        Outgoing("other", Address("github", REPOSITORY), "chat", "# Good morning\n\nx")
    )
    reopened = await there.channel.deliver(
        Outgoing("other", Address("github", REPOSITORY), "chat", "# Good morning\n\nx")
    )

    bodies = [each["body"] for each in api.by_bot()]
    assert len(bodies) == 2
    assert first == again
    assert opened == reopened
    assert [issue["title"] for issue in api.issues.values()] == ["", "Good morning"]
    assert all("<!-- dumbwaiter:" in body for body in bodies)


async def test_reactions_of_people_are_found_by_looking_each_once(api: GitHubApi, tmp_path: Path) -> None:
    """No webhook tells of them, and no date changes by them."""
    number = api.open_issue("", "an old issue")
    api.react_by("ann", number, "rocket")
    for each in (api.issues[number], *api.reactions[str(number)]):
        each |= {name: "2020-01-01T00:00:00Z" for name in ("created_at", "updated_at")}
    async with channel_host(tmp_path / "data", GITHUB, settings(api), is_started=False) as there:
        await there.register(REPOSITORY, is_group=True, session_mode="per-thread")
        await there.start()
        asked = api.comment(number, "reply 1 pong")
        (said,) = await api.got(1)
        api.react_by("bob", said["id"], "+1")
        api.react_by("ci[bot]", said["id"], "heart", kind="Bot")
        api.react_by(BOT, said["id"], "eyes")
        api.react_by("ann", asked, "confused")
        thread = Address("github", REPOSITORY, str(number))
        thumb = Reacted(thread, f"comment-{said['id']}", "👍", "bob", "bob")
        doubt = Reacted(thread, f"comment-{asked}", "😕", "ann", "ann")
        assert await reactions(there, 2) == {thumb, doubt}
        told = "SELECT content FROM ingest WHERE content LIKE '%reacted with 👍%'"
        assert len(await until(lambda: there.host.central(told), "it is context for the agent")) == 1
    api.react_by("eve", said["id"], "hooray")
    async with channel_host(tmp_path / "data", GITHUB, settings(api)) as there:
        assert await reactions(there, 1) == {Reacted(thread, thumb.platform_message_id, "🎉", "eve", "eve")}
        api.react_by("bob", said["id"], None)
        taken_back = Reacted(thread, thumb.platform_message_id, None, "bob", "bob", "👍")
        assert taken_back in await reactions(there, 2)


async def reactions(there: ChannelHost, count: int) -> set[Incoming]:
    """Wait until so many reactions were handed over; all of them."""

    def found() -> list[Incoming]:
        return [event for event in there.incoming if isinstance(event, Reacted)]

    await until(lambda: len(found()) >= count, f"{count} reactions are heard", 60)
    assert len(found()) == count
    return set(found())


async def test_an_outage_loses_and_doubles_nothing(there: ChannelHost, api: GitHubApi) -> None:
    number = api.open_issue("", f"reply 1 before @{BOT}")
    await api.got(1)
    await api.stop()
    error = await there.served()
    await api.start()
    api.comment(number, f"reply 1 after @{BOT}")
    await there.close()
    await there.start()
    comments = await api.got(2)

    assert isinstance(error, ChannelUnavailable)
    assert [each["body"].partition(" @")[0] for each in comments] == ["before", "after"]


async def test_what_cannot_be_kept_comes_again(api: GitHubApi, tmp_path: Path) -> None:
    full = [True]

    def disk(ingest: Ingest) -> Ingest:
        async def through(event: Incoming) -> Receipt:
            if full[0]:
                raise FileTrouble("the disk is full")
            return await ingest(event)

        return through

    async with channel_host(tmp_path / "data", GITHUB, settings(api), around=disk, chats=[REPOSITORY]) as there:
        number = api.open_issue("", "reply 1 kept")
        error = await there.served()
        full[0] = False
        await there.close()
        await there.start()
        (comment,) = await api.got(1)

    assert isinstance(error, ChannelUnavailable)
    assert comment["body"].startswith("kept 1")
    assert comment["issue_url"].endswith(f"/{number}")


async def test_limits_of_github_are_waited_out_and_refusals_are_final(there: ChannelHost, api: GitHubApi) -> None:
    number = api.open_issue("title", "body")
    here = Address("github", REPOSITORY, str(number))
    api.fails, api.retry_after = [429, 403], "7"
    for _ in range(2):
        with pytest.raises(ChannelUnavailable) as caught:
            await there.channel.deliver(Outgoing("key", here, "chat", "hello"))
        assert caught.value.retry_after == 7
    api.fails, api.retry_after = [502, 403], None
    with pytest.raises(ChannelUnavailable, match="GitHub answered 502"):
        await there.channel.deliver(Outgoing("key", here, "chat", "hello"))
    with pytest.raises(DeliveryRefused, match="GitHub answered 403"):
        await there.channel.deliver(Outgoing("key", here, "chat", "hello"))
    with pytest.raises(DeliveryRefused, match="no number of an issue"):
        await there.channel.deliver(Outgoing("key", Address("github", REPOSITORY, "x"), "chat", "hello"))
    with pytest.raises(DeliveryRefused, match="is no repository"):
        await there.channel.deliver(Outgoing("key", Address("github", "x", "1"), "chat", "hello"))


async def test_comments_are_changed_and_reacted_to(there: ChannelHost, api: GitHubApi) -> None:
    number = api.open_issue("title", "body")
    here = Address("github", REPOSITORY, str(number))
    message_id = await there.channel.deliver(Outgoing("key", here, "chat", "one"))
    await there.channel.edit(here, message_id, "two", ())
    await there.channel.react(here, message_id, "👀")
    await there.channel.react(here, message_id, "🚀")
    there_are = [each["content"] for each in api.reactions[message_id.partition("-")[2]]]
    await there.channel.react(here, message_id, None)
    with pytest.raises(DeliveryRefused, match="only these reactions: 👍"):
        await there.channel.react(here, message_id, "🦥")

    assert api.by_bot()[0]["body"].startswith("two\n\n<!-- dumbwaiter:")
    assert there_are == ["rocket"]
    assert api.reactions[message_id.partition("-")[2]] == []


async def test_asking_for_news_when_there_are_none_costs_nothing(there: ChannelHost, api: GitHubApi) -> None:
    await until(lambda: api.not_modified >= 3, "GitHub says that nothing is new", 60)


async def test_a_token_that_is_not_taken_is_said_and_no_secret_is_told(
    there: ChannelHost, api: GitHubApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    identity = await there.channel.check()
    api.token = "another"
    error = await there.served()
    with pytest.raises(ChannelRefused, match="GitHub does not take the access token: make a new token") as caught:
        await there.channel.check()

    assert (identity.id, identity.name, identity.missing) == (BOT, "The bot", ())
    assert isinstance(error, ChannelRefused)
    assert "canary" not in caplog.text + str(caught.value) + str(error) + repr(there.channel._settings)


async def test_a_repository_that_the_token_may_not_see_is_named(api: GitHubApi, tmp_path: Path) -> None:
    more = settings(api, repositories=[REPOSITORY, "acme/secret"])
    async with channel_host(tmp_path / "data", GITHUB, more, chats=[REPOSITORY]) as there:
        identity = await there.channel.check()
        api.open_issue("", "reply 1 pong")
        await api.got(1)
        api.is_visible = False
        error = await there.served()

    assert identity.missing == (
        "the repository acme/secret cannot be seen by the token: GitHub answered 404 Not Found",
    )
    assert isinstance(error, ChannelRefused)


def test_the_fake_speaks_as_the_library_knows_it() -> None:
    """The names and types of the fields are those of the library's own models."""
    from githubkit_schemas.latest.models import Issue, IssueComment, Reaction, ReactionRollup

    api = GitHubApi(url="https://api.github.test")
    number = api.open_issue("title", "body", labels=("x",))
    identifier = api.comment(number, "hello")
    api.react_by("ann", identifier, "+1")
    (reaction,) = api.reactions[str(identifier)]
    issue, comment = (each | api.summary(each) for each in (api.issues[number], api.comments[identifier]))
    for model, made in ((Issue, issue), (IssueComment, comment), (Reaction, reaction)):
        names = {field.alias or name for name, field in model.model_fields.items()}
        assert set(made) <= names
        for name in {"created_at", "updated_at"} & set(made):
            assert made[name].endswith("Z")
    assert set(comment["reactions"]) == {field.alias or name for name, field in ReactionRollup.model_fields.items()}


def test_a_repository_that_is_none_is_named() -> None:
    with pytest.raises(InvalidValue, match="a repository is written as owner/name"):
        settings_of(GITHUB, "github", {"token": "x", "repositories": ["x"]})
