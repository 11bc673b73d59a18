"""Looking up names: whose name server hangs waits for it alone."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address

import pytest

from host.gateway.egress import Egress
from host.gateway.grant import Patience
from host.gateway.lookups import Turns
from host.gateway.policy import Address, NetworkDestination, parse_rule
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

    egress, rules = Egress(Patience(resolve=0.2), find), [parse_rule("*.test")]
    turns = Turns()
    turn = turns.of("one")
    hurried = [
        asyncio.create_task(egress.connect(rules, NetworkDestination(f"slow{number}.test", 80), turn))
        for number in range(10)
    ]
    await until(lambda: len(hanging) == 2, "two of them are under way")
    hurried[0].cancel()  # hangs up; the others run into the limit
    ended = await asyncio.gather(*hurried, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError, *[Refused] * 9]

    with pytest.raises(Refused, match="is in a network that is not public"):  # found, in a thread that was free
        await egress.connect(rules, NetworkDestination("quick.test", 80), turns.of("another"))
    with pytest.raises(Refused, match="not found in time"):
        await egress.connect(rules, NetworkDestination("quick.test", 80), turn)
    assert hanging == ["slow0.test", "slow1.test"]

    name_server_answers.set()
    await until(lambda: not turn.locked(), "its turns are over")
    with pytest.raises(Refused, match="is in a network that is not public"):
        await egress.connect(rules, NetworkDestination("quick.test", 80), turn)


async def test_a_thread_that_cannot_be_begun_costs_no_turn() -> None:
    egress, rules = Egress(Patience(), lambda host, port: [ip_address("10.0.0.1")]), [parse_rule("*.test")]
    turn = Turns().of("one")
    before = threading.stack_size(2**46)  # more than a machine has
    try:
        for _ in range(3):
            with pytest.raises(Refused, match="no thread left"):
                await egress.connect(rules, NetworkDestination("quick.test", 80), turn)
    finally:
        threading.stack_size(before)
    with pytest.raises(Refused, match="is in a network that is not public"):
        await egress.connect(rules, NetworkDestination("quick.test", 80), turn)


async def test_twenty_sessions_whose_look_ups_hang_take_no_thread_from_another() -> None:
    hanging: list[str] = []
    name_server_answers = threading.Event()

    def find(host: str, port: int) -> list[Address]:
        if host.startswith("slow"):
            hanging.append(host)
            name_server_answers.wait(20)
        return [ip_address("10.0.0.1")]

    egress, rules, turns = Egress(Patience(resolve=0.2), find), [parse_rule("*.test")], Turns()
    begun_anew = 3  # an agent that ends and is started again has no more of them for it
    attempts = [
        asyncio.create_task(egress.connect(rules, NetworkDestination("slow.test", 80), turns.of(f"session-{number}")))
        for _ in range(begun_anew)
        for number in range(20)
    ]
    await until(lambda: len(hanging) == 40, "two of each are under way")
    ended = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(each) for each in ended} == {Refused}
    assert len(hanging) == 40

    began = asyncio.get_running_loop().time()
    with pytest.raises(Refused, match="is in a network that is not public"):  # it was found
        await egress.connect(rules, NetworkDestination("quick.test", 80), turns.of("honest"))
    assert asyncio.get_running_loop().time() - began < 0.2
    assert not [thread for thread in threading.enumerate() if thread.name == "gateway-name" and not thread.daemon]
    name_server_answers.set()
