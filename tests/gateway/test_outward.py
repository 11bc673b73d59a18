"""Looking up names: whose name server hangs waits for it alone."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address

import pytest

from host.gateway.grant import Patience
from host.gateway.outward import Outward, turn_for_lookups
from host.gateway.policy import Address, Destination, parse_rule
from host.gateway.refusal import Refused
from tests.support.wait import until


async def test_lookups_that_nobody_waits_for_any_more_keep_their_turn() -> None:
    hanging: list[str] = []
    name_server_answers = threading.Event()

    def find(host: str, port: int) -> list[Address]:
        if host.startswith("slow"):
            hanging.append(host)
            name_server_answers.wait(20)
        return [ip_address("10.0.0.1")]

    outward, rules = Outward(Patience(resolve=0.2), find), [parse_rule("*.test")]
    turn = turn_for_lookups()
    hurried = [
        asyncio.create_task(outward.connect(rules, Destination(f"slow{number}.test", 80), turn)) for number in range(10)
    ]
    await until(lambda: len(hanging) == 2, "two of them are under way")
    hurried[0].cancel()  # hangs up; the others run into the limit
    await asyncio.wait(hurried)

    with pytest.raises(Refused, match="is in a network that is not public"):  # found, in a thread that was free
        await outward.connect(rules, Destination("quick.test", 80), turn_for_lookups())
    with pytest.raises(Refused, match="not found in time"):
        await outward.connect(rules, Destination("quick.test", 80), turn)
    assert hanging == ["slow0.test", "slow1.test"]

    name_server_answers.set()
    await until(lambda: not turn.locked(), "its turns are over")
    with pytest.raises(Refused, match="is in a network that is not public"):
        await outward.connect(rules, Destination("quick.test", 80), turn)
    outward.close()
