"""Commands for owners and admins, and those about the host. The role is asked for in the transaction that answers."""

from __future__ import annotations

from host.access.answers import HOST_WIDE
from host.central import turns, usage
from host.central.database import Transaction
from host.operations import agent_groups
from host.operations import command_answers as answers
from host.operations.command_answers import ModelsInUse, UsedBudget
from host.operations.command_order import Order
from host.operations.push import push_to_agent_group
from shared_schema.errors import Conflict, InvalidValue

DEFAULT = "default"
_PERIODS = ("day", "month", "total")
_MOST_USD = 1e9
_MOST_TOKENS = 10**15


async def model(order: Order) -> None:
    """`/model [NAME]`: show or change the model of who answers here; `default` is the provider's own."""
    wanted = order.command.argument

    def run(tx: Transaction) -> None:
        order.require_admin(tx)
        group = order.agent_group(tx)
        if not wanted:
            last, why = turns.answered_before(tx, order.session.id)
            models = ModelsInUse(group.name, group.provider, group.model, group.fallback_models, last, why)
            order.finish(tx, answers.model_is(models))
            return
        name = None if wanted.lower() == DEFAULT else wanted
        group = agent_groups.set_model(tx, group, name)
        order.finish(tx, answers.model_set(group.name, group.model))

    await order.write(run)
    if wanted:
        await push_to_agent_group(order.services, order.row.agent_group_id)


async def budget(order: Order) -> None:
    """`/budget [AMOUNT]`: show or change what who answers here may use."""
    wanted = order.command.argument

    def run(tx: Transaction) -> None:
        order.require_admin(tx)
        group = order.agent_group(tx)
        if wanted:
            usd, tokens, period = parsed_budget(wanted, group.budget_period)
            group = agent_groups.set_budget(tx, group, usd, tokens, period)
            if not group.has_budget:
                order.finish(tx, answers.NO_BUDGET_NOW.format(agent=group.name))
                return
        used = usage.state(tx, group, tx.now)
        allowance = UsedBudget(
            group.name, group.budget_period, used.used_tokens, used.used_usd, group.budget_tokens, group.budget_usd
        )
        order.finish(tx, answers.budget(allowance))

    await order.write(run)


async def about_the_host(order: Order) -> None:
    """A command that is about the host and not about a conversation, such as `/whoami` and `/approve CODE`."""

    def run(tx: Transaction) -> None:
        if not order.is_open(tx):  # what was decided before is not decided again
            return
        answer = HOST_WIDE[order.command.name]
        order.finish(tx, answer(tx, order.command.argument, order.who(tx), order.chat))

    await order.write(run)


def parsed_budget(text: str, period: str) -> tuple[float | None, int | None, str]:
    """Dollars, tokens and period of what stands behind `/budget`; without a period the one it has.

    `5`, `$5 day`, `200000 tokens month`, `off`. Raises `InvalidValue` that says how to write it. Pure.
    """
    words = text.lower().split()
    if words == ["off"]:
        return None, None, period
    if words and words[-1] in _PERIODS:
        period = words.pop()
    is_tokens = len(words) == 2 and words[1] in ("token", "tokens")
    if len(words) != 1 + is_tokens or len(words[0]) > 20:
        raise InvalidValue(answers.BUDGET_HOW)
    number = words[0].removeprefix("$").replace(",", "").replace("_", "")
    if not number.isascii() or not number.replace(".", "", 1).isdigit() or (is_tokens and "." in number):
        raise InvalidValue(answers.BUDGET_HOW)
    amount = float(number)
    if not 0 < amount < (_MOST_TOKENS if is_tokens else _MOST_USD):
        raise Conflict("A budget is more than nothing and less than everything there is. /budget off takes it away.")
    return (None, int(amount), period) if is_tokens else (amount, None, period)
