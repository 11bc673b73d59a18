"""What is written behind a command waits for it."""

from __future__ import annotations

import asyncio

import pytest

from host.routing.open_commands import OpenCommands

HERE, THERE = ("memory", "one"), ("memory", "two")


@pytest.fixture
def commands() -> OpenCommands:
    commands = OpenCommands(patience=20.0)
    commands.is_served = True
    return commands


async def test_it_waits_until_all_agents_have_done_the_command(commands: OpenCommands) -> None:
    arrival = commands.arrive(HERE)
    waiting = asyncio.create_task(commands.passed(HERE))
    await asyncio.sleep(0)
    commands.accepted(arrival, ["msg_1", "msg_2"])
    commands.done("msg_1")
    commands.done("msg_1")
    await asyncio.sleep(0)
    assert not waiting.done()
    commands.done("msg_2")
    await waiting


async def test_nobody_waits_in_another_chat_nor_behind_what_came_later(commands: OpenCommands) -> None:
    commands.accepted(commands.arrive(HERE), ["msg_1"])
    waiting = asyncio.create_task(commands.passed(HERE))
    await asyncio.sleep(0)
    commands.accepted(commands.arrive(HERE), ["msg_2"])
    await commands.passed(THERE)
    commands.done("msg_1")
    await waiting


async def test_nobody_waits_for_a_command_that_was_not_accepted(commands: OpenCommands) -> None:
    commands.accepted(commands.arrive(HERE), [])
    await commands.passed(HERE)


async def test_nobody_waits_where_no_commands_are_carried_out() -> None:
    commands = OpenCommands(patience=20.0)
    commands.accepted(commands.arrive(HERE), ["msg_1"])
    await commands.passed(HERE)


async def test_nobody_waits_for_ever() -> None:
    commands = OpenCommands(patience=0.01)
    commands.is_served = True
    commands.accepted(commands.arrive(HERE), ["msg_1"])
    await commands.passed(HERE)
