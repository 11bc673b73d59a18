"""The world that most of these tests play in, once for each transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.gateway.server import Transport
from tests.gateway.world import World, world


@pytest.fixture(params=list(Transport))
def transport(request: pytest.FixtureRequest) -> Transport:
    kind: Transport = request.param
    return kind


@pytest.fixture
async def here(tmp_path: Path, transport: Transport) -> AsyncIterator[World]:
    async with world(tmp_path, transport) as made:
        yield made
