"""Watching a process: log lines with their correlation, Prometheus metrics, OpenTelemetry traces."""

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The folder in which processes count together. It must be set before `metrics` is loaded, so it is named here."""
