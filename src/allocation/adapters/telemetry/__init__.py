"""Watching a process: log lines with their correlation, Prometheus metrics, OpenTelemetry traces."""
