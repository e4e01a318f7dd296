"""What a meter says: cumulative joules by domain, where they come from, and how much time went unmeasured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

#: ``counter``: the hardware accumulates joules; ``integrated``: power samples summed over time;
#: ``modelled``: an estimate from something else, such as CPU seconds. Never shown as one another.
Method = Literal["counter", "integrated", "modelled"]

#: How much of the machine a meter sees. ``board``: a sensor that is known to feed the board; ``module``: one
#: that feeds the module on a carrier; ``supply``: one in a supply line that nothing names; ``part``: some of
#: the loads.
Scope = Literal["board", "module", "supply", "part"]


@dataclass(frozen=True)
class DomainEnergy:
    """Joules used by one part of the board since the meter was made.

    Domains of one reading do not overlap, so their sum is the whole.

    Attributes:
        domain: What was measured: "board", "cpu", "gpu", ...
        joules: Cumulative energy; never falls between readings of one meter.
        source: Where the figure comes from: "rapl", "ina3221", "model", ...
        method: How the figure is known.
        watts: Power at the last read; None where it is not known.
    """

    domain: str
    joules: float
    source: str
    method: Method
    watts: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class EnergyReading:
    """One cumulative reading of a meter.

    Attributes:
        domains: Energy by domain.
        unmeasured_seconds: Cumulative seconds for which the energy is not fully known, because a sensor
            could not be read or had been reset; the joules of such time are a lower bound.
        breakdown: Energy of parts of the domains (a rail of the board, the cores of a package). It is in the
            domains already and never added to them; the parts together never exceed the domains together.
        faults: Domains that gave no figure at this read, and why.
    """

    domains: tuple[DomainEnergy, ...]
    unmeasured_seconds: float
    breakdown: tuple[DomainEnergy, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def joules(self) -> float:
        """The sum over the domains, in joules."""
        return sum(domain.joules for domain in self.domains)

    @property
    def watts(self) -> float | None:
        """The power at the last read, summed over the domains that tell it; None where none does."""
        told = [domain.watts for domain in self.domains if domain.watts is not None]
        return sum(told) if told else None


@dataclass(frozen=True)
class Glance:
    """What a meter's sensors show at this moment, apart from any account of energy.

    Attributes:
        watts: Power; None where counters alone are read.
        doubt: Why the figure cannot be the board's; empty where nothing speaks against it.
    """

    watts: float | None = None
    doubt: str = ""


class Meter(Protocol):
    """Anything that can say how many joules were used so far.

    Attributes:
        source: Name of the source: "rapl", "ina3221", "model", ...
        method: How its joules are known; the weakest of its domains' methods.
        period_s: Seconds between reads that it wants, so that power is sampled often and counters seldom.
    """

    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def method(self) -> Method: ...  # noqa: D102
    @property
    def period_s(self) -> float: ...  # noqa: D102

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


class SourceMeter(Meter, Protocol):
    """A meter of real sensors, which can be one of several candidates for the board's meter."""

    @property
    def scope(self) -> Scope:
        """How much of the machine it sees."""
        ...

    def glance(self) -> Glance:
        """Look at the sensors now; books nothing."""
        ...
