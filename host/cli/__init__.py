"""The command line: thin commands over the operations, one module per noun.

What a command does not need it does not import: `dumbwaiter session list` loads neither docker nor aiohttp nor
prompt_toolkit, and, when a host runs, not even the settings.
"""

from __future__ import annotations

from shared_schema import collector


def main() -> None:
    """The console scripts `dumbwaiter` and `dw`. Ends the process: 0 done, 1 failed, 2 wrong usage."""
    collector.wait()
    from host.cli.root import root

    root()
