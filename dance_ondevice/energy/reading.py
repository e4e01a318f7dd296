"""What a meter says: cumulative joules by domain, where they come from, and how much time went unmeasured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

#: ``counter``: the hardware accumulates joules; ``integrated``: power samples summed over time;
#: ``modelled``: an estimate from something else, such as CPU seconds. Never shown as one another.
Method = Literal["counter", "integrated", "modelled"]


@dataclass(frozen=True)
class DomainEnergy:
    """Joules used by one part of the board since the meter was made.

    Domains of one reading do not overlap, so their sum is the whole.

    Attributes:
        domain: What was measured: "board", "cpu", "gpu", ...
        joules: Cumulative energy; never falls between readings of one meter.
        source: Where the figure comes from: "rapl", "ina3221", "model", ...
        method: How the figure is known.
        watts: Power at the last read; None where that is not known.
    """

    domain: str
    joules: float
    source: str
    method: Method
    watts: float | None = None


@dataclass(frozen=True)
class EnergyReading:
    """One cumulative reading of a meter.

    Attributes:
        domains: Energy by domain.
        unmeasured_seconds: Cumulative seconds for which the energy is not fully known, because a sensor
            could not be read or had been reset; the joules of such time are a lower bound.
        breakdown: Energy of parts of the domains (a rail of the board, the cores of a package). It is in the
            domains already and never added to them; the parts together never exceed the domains together.
    """

    domains: tuple[DomainEnergy, ...]
    unmeasured_seconds: float
    breakdown: tuple[DomainEnergy, ...] = ()

    @property
    def joules(self) -> float:
        """The sum over the domains, in joules."""
        return sum(domain.joules for domain in self.domains)


class Meter(Protocol):
    """Anything that can say how many joules were used so far.

    Attributes:
        source: Name of the source: "rapl", "ina3221", "model", ...
        method: How its joules are known; the weakest of its domains' methods.
        period_s: Seconds between reads that it wants, so that power is sampled often and counters seldom.
    """

    source: str
    method: Method
    period_s: float

    @property
    def about(self) -> str:
        """What it measures on this board, in a sentence for the user."""
        ...

    def read(self, now: float) -> EnergyReading:
        """The energy used since the meter was made.

        Args:
            now: Monotonic time in seconds.
        """
        ...
