"""Readings of meters: cumulative joules by domain, their source, and the time that was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

#: Method of measurement. ``counter``: the hardware accumulates joules; ``integrated``: power samples summed
#: over time; ``modelled``: an estimate from other figures, such as CPU seconds. Reports always name the
#: method.
Method = Literal["counter", "integrated", "modelled"]

#: Part of the machine that a meter measures. ``board``: a sensor that is known to feed the board; ``module``:
#: one that feeds the module on a carrier; ``supply``: one in a supply line without a name; ``part``: some of
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
        """Return the sum over the domains, in joules."""
        return sum(domain.joules for domain in self.domains)

    @property
    def watts(self) -> float | None:
        """Return the power at the last read in watts, summed over the domains with one; None without any."""
        told = [domain.watts for domain in self.domains if domain.watts is not None]
        return sum(told) if told else None


@dataclass(frozen=True)
class Glance:
    """Present values of a meter's sensors, which are not booked as energy.

    Attributes:
        watts: Power in watts; None if there are only counters.
        doubt: Reason why the figure cannot be the board's; empty if it is plausible.
    """

    watts: float | None = None
    doubt: str = ""


class Meter(Protocol):
    """Interface of a meter, which returns the joules used so far."""

    @property
    def source(self) -> str:
        """Return the name of the source: "rapl", "ina3221", "model", ..."""
        ...

    @property
    def method(self) -> Method:
        """Return the method of measurement, the weakest of its domains' methods."""
        ...

    @property
    def period_s(self) -> float:
        """Return the seconds between reads that it needs: short for power samples, long for counters."""
        ...

    @property
    def about(self) -> str:
        """Describe what the meter measures on this board, in a sentence for the user."""
        ...

    def read(self, now: float) -> EnergyReading:
        """Return the energy used since the meter was made.

        Args:
            now: Monotonic time in seconds.
        """
        ...


class SourceMeter(Meter, Protocol):
    """A meter of real sensors, which can be one of several candidates for the board's meter."""

    @property
    def scope(self) -> Scope:
        """Return the part of the machine that the meter measures."""
        ...

    def glance(self) -> Glance:
        """Read the sensors now, without booking energy."""
        ...
