"""How far agents may go on among themselves: hops since a person wrote, and messages in an hour.

Agents that answer each other come to an end by themselves. In a chat everybody reads along, so it is soon; between two
agents alone there is more to settle. A limit that strikes is told to the agent and to a person, and `status` shows it.
"""

from __future__ import annotations

MOST_HOPS_IN_CHAT = 4
"""Answers of agents to agents in one chat since a person has written."""

MOST_HOPS_BETWEEN = 8
"""Messages between agents, there and back, since a person has written."""

MOST_MESSAGES_PER_HOUR = 60
"""From one agent group to one other."""


def too_many_hops(speaker: str, listener: str) -> str:
    """Why a message between two agents is not handed over."""
    return (
        f"{speaker} and the agents it writes to have gone back and forth {MOST_HOPS_BETWEEN} times since a person "
        f"wrote; this message to {listener} is not handed over. A message of a person begins anew"
    )


def too_many_messages(speaker: str, listener: str) -> str:
    """Why one more message in this hour is not handed over."""
    return f"{speaker} has sent {listener} {MOST_MESSAGES_PER_HOUR} messages in this hour, and no more are handed over"
