"""Prometheus metrics: instruments, exporter and the page that documents them."""
