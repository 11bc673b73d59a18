"""How long to wait after failures in a row. Pure; every wait of the host that grows is one of these."""

from __future__ import annotations

from shared_schema.dataclass import dataclass

_MOST_DOUBLINGS = 30  # a float overflows at 1,024, which an outage of some hours can reach


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts, in seconds: the first, doubling up to the longest."""

    first: float
    longest: float

    def after(self, failures: int) -> float:
        """Returns the wait after that many failures in a row; after none it is the first."""
        return min(self.first * 2.0 ** min(max(0, failures - 1), _MOST_DOUBLINGS), self.longest)
