"""schemathesis over the API: what is generated from the document is answered as the document says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from host.http_api.openapi import document
from tests.http_api.programs import open_api

WITHOUT_END = frozenset({"event.follow", "run.follow"})
OUTSIDE = frozenset(
    {
        "doctor.examine", "model_service.ask", "channel.add", "channel.check", "session.compress", "history.rebuild",
        "token.revoke",
    }
)  # fmt: skip
"""They ask engines, services and platforms, take as long as there is history, or end the token that asks."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a host in a thread of its own, and a token that may do everything."""
    there: list[tuple[str, str]] = []
    begun, end = threading.Event(), threading.Event()

    async def serve() -> None:
        async with open_api(tmp_path / "data") as api:
            await api.host.ask("hello")
            there.append((api.address, await api.token(rights="admin")))
            begun.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert begun.wait(120), "the host is served"
    try:
        yield there[0]
    finally:
        end.set()
        thread.join(120)


def ask_all(served: tuple[str, str], examples: int, every: int = 1) -> int:
    """Ask operations what is right and what is wrong; how many there were. Raises what is found."""
    import schemathesis  # it takes seconds, and memory: what runs other tests goes without
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    address, token = served
    wanted = [
        checks.content_type_conformance,
        checks.ignored_auth,
        checks.negative_data_rejection,
        checks.response_schema_conformance,
        checks.status_code_conformance,
        not_a_server_error,
    ]
    options = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    count = 0
    found = list(schemathesis.openapi.from_dict(document()).get_all_operations())
    for result in found[::every]:
        operation = result.ok()
        if operation.definition.raw["operationId"] in WITHOUT_END | OUTSIDE:
            continue
        for mode in schemathesis.GenerationMode:

            @options
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                headers = {"Authorization": f"Bearer {token}"}
                case.call_and_validate(base_url=address, headers=headers, checks=wanted, timeout=60)

            ask()
        count += 1
    return count


def test_operations_answer_as_they_are_described(served: tuple[str, str]) -> None:
    assert ask_all(served, 1, every=4) > 20


@pytest.mark.full
def test_every_operation_answers_as_it_is_described_at_length(served: tuple[str, str]) -> None:
    assert ask_all(served, 100) > 100


def test_what_is_left_out_is_there() -> None:
    named = {each["operationId"] for path in document()["paths"].values() for each in path.values()}
    assert named >= WITHOUT_END | OUTSIDE
