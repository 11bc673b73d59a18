"""The name under which all of this is installed: one package, `dumbwaiter`.

The code says `host`, `container_agent` and `shared_schema`. In a checkout these are folders beside this file. In a
wheel this file is `dumbwaiter/__init__.py` and they are folders beside it all the same: an installation adds a single
top-level name, and the program looks for modules beside this file first, only in processes of its own. (A checkout that
is installed with `pip install -e` has a copy of this file in site-packages, and is on the path by itself.)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
"""The folder of `host`, `container_agent`, `shared_schema` and `Dockerfile.agent`."""


def main() -> None:
    """The console scripts `dumbwaiter` and `dw`. Ends the process: 0 done, 1 failed, 2 wrong usage."""
    sys.path.insert(0, str(ROOT))
    from host.cli import main as command_line

    command_line()
