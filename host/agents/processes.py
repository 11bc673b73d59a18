"""What becomes of an agent's background processes, told to the agent: how one ended, and that others are gone.

Each is told once, by the process's own key. A process may wake its agent when it ends; so may an agent that ends what
it has just begun, so that is counted, and asks the budget first. What does not wake is read with the next turn.
"""

from __future__ import annotations

from collections.abc import Sequence

from host.access.told_to_agents import tell
from host.central import agent_groups, rate_limits, sessions, usage
from host.central.database import Transaction
from host.central.rate_limits import Act
from shared_schema.background import BackgroundProcess


def tell_ended(tx: Transaction, session_id: str, processes: Sequence[BackgroundProcess]) -> None:
    """Tell the agent of processes that have ended by themselves; of those that it is to hear of."""
    for process in processes:
        if not process.is_running and process.wakes:
            text = f"The background process '{process.name}' has {process.ended}: `{process.command}`."
            if process.output:
                text += f"\n\nThe end of its output:\n\n{process.output}"
            wakes = _may_wake(tx, session_id)
            tell(tx, session_id, f"process-{process.key}", text, {}, wakes=wakes)


def tell_gone(
    tx: Transaction,
    session_id: str,
    processes: Sequence[BackgroundProcess],
    *,
    why: str,
    wakes: bool,
) -> None:
    """Tell the agent of processes that were gone with it, in one message; `why` says how the agent ended.

    `wakes`: it ended for no reason that asks for quiet, so that a process that was to wake it does.
    """
    tell_ended(tx, session_id, processes)  # the host may not have seen it while the agent lived
    gone = [process for process in processes if process.is_running]
    if not gone:
        return
    names = ", ".join(f"'{process.name}' (`{process.command[:80]}`)" for process in gone)
    what = "background process is" if len(gone) == 1 else "background processes are"
    text = f"Your {what} gone, because {why}: {names}. Start again what is still needed."
    wakes = wakes and any(process.wakes for process in gone) and _may_wake(tx, session_id)
    tell(tx, session_id, f"processes-gone-{gone[0].key}", text, {}, wakes=wakes)


def _may_wake(tx: Transaction, session_id: str) -> bool:
    session = sessions.lookup(tx, session_id)
    group = None if session is None else agent_groups.by_id(tx, session.agent_group_id)
    if group is None or usage.refusal(tx, group, tx.now) is not None:
        return False
    return rate_limits.take(tx, Act.PROCESSES, group.name).allowed
