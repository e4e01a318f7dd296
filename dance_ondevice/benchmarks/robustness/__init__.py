"""Results of ``make soak`` and ``make faults``: what was measured, and how it is shown."""
