"""`python -m tests.simulation [--first N] [--seeds N]`: play many worlds, and say what they came to."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from tests.simulation.story import play
from tests.simulation.world import Violation


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began, played, steps, failed = time.monotonic(), 0.0, 0, []
    counts: Counter[str] = Counter()
    for seed in range(given.first, given.first + given.seeds):
        try:
            report = play(seed)
        except Violation as error:
            failed.append(seed)
            print(error, flush=True)
            continue
        if seed % 500 == 0:
            print(f"{seed - given.first} seeds after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        counts.update(report.counts)
        played += report.seconds
        steps += report.steps
    took = time.monotonic() - began
    print(f"{given.seeds} seeds from {given.first} in {took:.0f} s: {played / 3600:.0f} hours played, {steps} steps")
    print(", ".join(f"{name} {number}" for name, number in sorted(counts.items())))
    print(f"failed: {failed}" if failed else "every invariant held")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
