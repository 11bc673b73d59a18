"""What MCP servers notify of, on its way to the host: the newest few, in bounded room, each with a key of its own."""

from __future__ import annotations

import asyncio

import pytest

from container_agent.tools.notifications import Notifications
from shared_schema import mcp_notices
from shared_schema.errors import FileBusy
from shared_schema.mcp_notices import LONGEST_TEXT, MOST_CHARACTERS, MOST_KEPT, Notification
from tests.support.wait import until


async def test_the_newest_are_written_together_and_those_about_calls_are_not() -> None:
    noted: list[str] = []
    notifications = Notifications(noted.append)
    notifications.take("tracker", "notifications/progress", {"progress": 1})
    for number in range(MOST_KEPT + 5):
        notifications.take("tracker", "notifications/resources/updated", {"uri": f"tea://{number}"})
    await until(lambda: noted, "it is written")
    found = mcp_notices.parsed(noted[-1])
    assert [each.text for each in found] == [f'{{"uri": "tea://{number}"}}' for number in range(5, MOST_KEPT + 5)]
    assert len({each.key for each in found}) == MOST_KEPT
    assert len(noted) == 1
    notifications.close()


async def test_a_file_that_is_locked_is_tried_again_and_what_is_left_is_written_at_the_end() -> None:
    noted: list[str] = []
    failures = [FileBusy("it is locked")]

    def note(value: str) -> None:
        if failures:
            raise failures.pop()
        noted.append(value)

    notifications = Notifications(note)
    notifications.take("tracker", "notifications/message", {"data": "x" * 10_000})
    await until(lambda: noted, "it is written the second time")
    notifications.take("tracker", "notifications/message", {"data": "more"})
    notifications.close()
    assert len(mcp_notices.parsed(noted[-1])) == 2
    assert len(mcp_notices.parsed(noted[0])[0].text) == LONGEST_TEXT
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "value", [None, "", "{", "{}", "[1]", '[{"key": "x"}]', "[" * 5_000, " " * (MOST_CHARACTERS + 1), 7, b"[]"]
)
def test_what_is_no_list_of_notifications_is_none(value: object) -> None:
    assert mcp_notices.parsed(value) == ()


def test_a_full_list_of_the_longest_can_be_read_again() -> None:
    longest = [Notification(f"{number:016x}", "s" * 64, "m" * 100, '"' * LONGEST_TEXT) for number in range(MOST_KEPT)]
    assert mcp_notices.parsed(mcp_notices.stored(longest)) == tuple(longest)
