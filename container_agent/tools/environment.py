"""What programs that the agent starts get of its environment. Pure.

A list of what they may have, so that nothing secret gets there by having a new name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared_schema import processes

_ALLOWED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TERM|TMPDIR|(HTTPS?|ALL|FTP|NO)_PROXY"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS|GIT_SSL_CAINFO"
    r"|PYTHONUNBUFFERED|PYTHONDONTWRITEBYTECODE|TRACEPARENT|PIP_[A-Z_]*|NPM_CONFIG_[A-Z_]*"
    rf"|{processes.RUN}",  # by which the host finds what an agent has started
    re.IGNORECASE,
)
_SECRET = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)


def for_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a program started by a tool gets; the proxies among them."""
    return {name: value for name, value in environment.items() if _ALLOWED.fullmatch(name) and not _SECRET.search(name)}
