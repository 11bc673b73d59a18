from __future__ import annotations

import pytest

from shared_schema.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
