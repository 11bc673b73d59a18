"""What every channel must do, over a fake of GitHub's API. What has no thread is an issue of its own there."""

from __future__ import annotations

from typing import Any

import pytest

from host.channels.github import TYPE
from host.channels.github.marks import without_mark
from host.channels.github.reactions import CONTENTS
from tests.channels.contract import Ability, Arrived, ChannelContract, Fault, Subject
from tests.platforms.github_api import BOT, REPOSITORY, TOKEN, GitHubApi


class GitHubPlatform(GitHubApi):
    """GitHub, as the contract plays it."""

    chat = REPOSITORY
    person = "ann"

    def settings(self) -> dict[str, Any]:
        return {"token": TOKEN, "repositories": [REPOSITORY], "api_url": self.url, "poll_seconds": 1}

    async def write(
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        if thread is None:
            return f"issue-{self.open_issue('', text)}"
        return f"comment-{self.comment(int(thread), text)}"

    async def edit(self, message_id: str, text: str) -> None:
        number = int(message_id.partition("-")[2])
        if number in self.issues:
            self.edit_issue(number, text)
        else:
            self.edit_comment(number, text)

    async def delete(self, message_id: str) -> None:
        raise NotImplementedError("asking does not tell of it")

    async def click(self, message_id: str, value: str) -> None:
        raise NotImplementedError("there are no buttons")

    async def react(self, message_id: str, emoji: str | None) -> None:
        self.react_by("ann", int(message_id.partition("-")[2]), None if emoji is None else CONTENTS[emoji])

    async def new_thread(self) -> str:
        return str(self.open_issue("A thread", "", by="somebody-else[bot]"))

    async def arrived(self) -> list[Arrived]:
        shown = {content: emoji for emoji, content in CONTENTS.items()}
        posts = [
            *((f"issue-{number}", str(number), each) for number, each in self.issues.items()),
            *(
                (f"comment-{number}", each["issue_url"].rpartition("/")[2], each)
                for number, each in self.comments.items()
            ),
        ]
        return [
            Arrived(
                message_id,
                without_mark(each["body"]),
                REPOSITORY,
                thread,
                reactions=tuple(shown[one["content"]] for one in self.reactions.get(message_id.partition("-")[2], [])),
            )
            for message_id, thread, each in sorted(posts, key=lambda post: int(post[0].partition("-")[2]))
            if each["user"]["login"] == BOT
        ]

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        match fault:
            case Fault.SLOW:
                self.slow = seconds
            case Fault.HANGS:
                self.hangs = times
            case Fault.TOO_MANY:
                self.fails, self.retry_after = [429] * times, str(int(seconds))
            case Fault.FAILS:
                self.fails = [500] * times
            case Fault.DROPS_BEFORE:
                self.drops_before = times
            case Fault.DROPS_AFTER:
                self.drops_after = times
            case Fault.CHAT_GONE:
                self.fails = [404] * times
            case Fault.REVOKED:
                self.token = "another"
            case _:
                raise NotImplementedError(fault)

    async def typing_count(self) -> int:
        return 0


@pytest.mark.full
class TestGitHub(ChannelContract):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(
            platform=GitHubPlatform(),
            kind=TYPE,
            # What is asked for is a list of what there is: each thing once, in order, or no answer at all.
            faults=frozenset(Fault) - {Fault.TWICE, Fault.SWAPPED, Fault.DEAF},
            most_text=65_536,
            deletes_in_threads=True,  # what is in none is an issue, which only an administrator deletes
            abilities=frozenset({Ability.EDIT, Ability.THREADS, Ability.AWAY}),
        )
