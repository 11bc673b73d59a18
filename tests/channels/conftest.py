from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared_schema.clock import ManualClock
from tests.conftest import cannot_run
from tests.platforms.mail_server import Dovecot, dovecot, missing_dovecot
from tests.platforms.synapse import Synapse, missing_synapse, synapse


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def imap() -> Iterator[Dovecot]:
    """One Dovecot for all tests; each has a mailbox of its own."""
    if (reason := missing_dovecot()) is not None:
        cannot_run(reason)
    with dovecot() as server:
        yield server


@pytest.fixture(scope="session")
def homeserver() -> Iterator[Synapse]:
    """One Synapse for all tests; each has people and rooms of its own."""
    if (reason := missing_synapse()) is not None:
        cannot_run(reason)
    with synapse() as server:
        yield server
