"""Every target there is. A new reader of somebody else's bytes gets its target in one of these modules."""

from __future__ import annotations

from tests.fuzz.agent_values import AGENT_VALUES
from tests.fuzz.asking import ASKING
from tests.fuzz.command_line import COMMAND_LINE
from tests.fuzz.configuration import CONFIGURATION
from tests.fuzz.connections import CONNECTIONS
from tests.fuzz.discord import DISCORD_TARGETS
from tests.fuzz.doings import DOINGS
from tests.fuzz.events import EVENT_TARGETS
from tests.fuzz.forwarding import FORWARDING
from tests.fuzz.gateway import GATEWAY
from tests.fuzz.history import HISTORY
from tests.fuzz.hub import HUB
from tests.fuzz.incoming import INCOMING
from tests.fuzz.mails import MAILS
from tests.fuzz.markdown import MARKDOWN
from tests.fuzz.matrices import MATRICES
from tests.fuzz.metering import METERING
from tests.fuzz.model import MODEL
from tests.fuzz.outbound_file import OUTBOUND_FILE
from tests.fuzz.outgoing import OUTGOING
from tests.fuzz.prompt import PROMPT
from tests.fuzz.reach import REACH
from tests.fuzz.requests import REQUEST_TARGETS
from tests.fuzz.servers import SERVERS
from tests.fuzz.slack import SLACK_TARGETS
from tests.fuzz.small_readers import SMALL_READERS
from tests.fuzz.telegrams import TELEGRAM
from tests.fuzz.tools import TOOLS
from tests.fuzz.webhooks import WEBHOOKS

MODULES = (
    OUTBOUND_FILE, OUTGOING, INCOMING, EVENT_TARGETS, REQUEST_TARGETS, COMMAND_LINE, CONFIGURATION, HISTORY, GATEWAY,
    METERING, REACH, ASKING, MODEL, PROMPT, TOOLS, SERVERS, FORWARDING, MARKDOWN, WEBHOOKS, MAILS, MATRICES, HUB,
    SLACK_TARGETS, DISCORD_TARGETS, TELEGRAM, DOINGS, AGENT_VALUES,
    SMALL_READERS, CONNECTIONS,
)  # fmt: skip
TARGETS = {target.name: target for module in MODULES for target in module}
