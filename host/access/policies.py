"""What an agent group may do about itself: by itself, after a yes, or not at all. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared_schema.errors import InvalidValue


class PolicyAct(StrEnum):
    """What an agent may ask for. The value is what an operator types."""

    HOSTS = "hosts"
    TOOL_SERVERS = "tool-servers"
    AGENTS = "agents"
    PACKAGES = "packages"
    MOUNTS = "mounts"


class ActPolicy(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


def policy_of(policies: Mapping[str, str], act: PolicyAct) -> ActPolicy:
    """The policy of an agent group for an act: it asks, where the operator has not said otherwise."""
    said = policies.get(act)
    return ActPolicy(said) if said in set(ActPolicy) else ActPolicy.ASK


def parsed(text: str) -> tuple[PolicyAct, ActPolicy]:
    """Act and policy of `hosts=deny`. Raises `InvalidValue`."""
    act, _, policy = text.strip().partition("=")
    if act not in set(PolicyAct) or policy not in set(ActPolicy):
        raise InvalidValue(
            f"'{text[:80]}' is not a policy",
            hint=f"write one of {', '.join(PolicyAct)}, then = and one of {', '.join(ActPolicy)}: hosts=deny",
        )
    return PolicyAct(act), ActPolicy(policy)
