"""Every target there is. A new reader of somebody else's bytes gets its target in one of these modules."""

from __future__ import annotations

from tests.fuzz.command_line import COMMAND_LINE
from tests.fuzz.configuration import CONFIGURATION
from tests.fuzz.events import EVENT_TARGETS
from tests.fuzz.history import HISTORY
from tests.fuzz.incoming import INCOMING
from tests.fuzz.outbound_file import OUTBOUND_FILE
from tests.fuzz.outgoing import OUTGOING
from tests.fuzz.requests import REQUEST_TARGETS

MODULES = (OUTBOUND_FILE, OUTGOING, INCOMING, EVENT_TARGETS, REQUEST_TARGETS, COMMAND_LINE, CONFIGURATION, HISTORY)
TARGETS = {target.name: target for module in MODULES for target in module}
