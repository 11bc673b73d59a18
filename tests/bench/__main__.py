"""Measure, and say how it compares: `python -m tests.bench [FIGURE …]`."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping

import click

from tests.bench import (
    accepting,
    against,
    burst,
    channels,
    cluster,
    cold_start,
    gateway,
    history,
    http_api,
    idle_agent,
    idle_host,
    long_outbox,
    message,
    parts,
    round_trip,
    schedules,
    session_list,
    web,
)
from tests.bench.figure import Figure
from tests.bench.report import FILE, Run, markdown, show
from tests.bench.workbench import Workbench, machine, workbench

Measure = Callable[[Workbench], Iterator[Figure]]

FIGURES: Mapping[str, Measure] = {
    "message": message.measure,
    "round-trip": round_trip.measure,
    "parts": parts.measure,
    "polling": round_trip.measure_polling,
    "cold-start": cold_start.measure,
    "accepting": accepting.measure,
    "burst": burst.measure,
    "channels": channels.measure,
    "channels-crowd": channels.measure_crowd,
    "idle": idle_host.measure,
    "idle-with-agents": idle_host.measure_with_agents,
    "idle-agent": idle_agent.measure,
    "long-outbox": long_outbox.measure,
    "session-list": session_list.measure,
    "schedules": schedules.measure,
    "gateway": gateway.measure,
    "http-api": http_api.measure,
    "web": web.measure,
    "history": history.measure,
    "history-full": history.measure_full,
    "cluster-cold-start": cluster.measure_cold_start,
    "cluster-round-trip": cluster.measure_round_trip,
    "cluster-idle": cluster.measure_idle,
    "cluster-agents": cluster.measure_agents,
}
CLUSTER = tuple(name for name in FIGURES if name.startswith("cluster-"))
ON_REQUEST = frozenset({"history-full", "channels-crowd", *CLUSTER})
"""They take minutes, or root, so they are measured only when they are named."""


@click.command()
@click.argument("names", nargs=-1, metavar="[FIGURE]...", type=click.Choice([*FIGURES, "cluster"]))
@click.option("--markdown", "as_markdown", is_flag=True, help=f"Print the table of {FILE} and measure nothing.")
@click.option("--against", "revision", metavar="REV", help="Measure an older revision as well, in alternating blocks.")
def main(names: tuple[str, ...], as_markdown: bool, revision: str | None) -> None:
    """Measure all figures, or some, and write them to build/bench.json. `cluster` is all that need several machines."""
    if as_markdown:
        click.echo(markdown(Run.load()))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: everything is cleared away
    names = tuple(each for name in names for each in (CLUSTER if name == "cluster" else (name,)))
    chosen = names or tuple(name for name in FIGURES if name not in ON_REQUEST)
    if revision is not None:
        measures = [FIGURES[name] for name in names or ("message",)]
        against.compare(revision, [(measure.__module__, measure.__name__) for measure in measures])
        return
    began = time.monotonic()
    with workbench() as bench:
        described = machine(bench.folder)
        figures, left_out = _measure(bench, chosen)
    if bench.why_no_engine is not None:
        left_out.insert(0, f"Figures with docker are left out: {bench.why_no_engine}.")
    run = Run(described, time.monotonic() - began, figures, left_out)
    run.save()
    show(run)
    sys.exit(1 if any("broke" in line for line in left_out) else 0)


def _measure(bench: Workbench, names: tuple[str, ...]) -> tuple[list[Figure], list[str]]:
    """Figures, and what broke. What breaks one measurement leaves the others."""
    figures: list[Figure] = []
    broken: list[str] = []
    for name in names:
        began = time.monotonic()
        print(f"{name} … ", end="", file=sys.stderr, flush=True)
        try:
            figures.extend(FIGURES[name](bench))
        except Exception as error:  # the boundary of one measurement
            traceback.print_exc()
            broken.append(f"'{name}' broke: {error or type(error).__name__}")
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return figures, broken


if __name__ == "__main__":
    main()
