"""The energy account of the service: meters, attribution to workloads, ledger and budget."""
