"""The account in Prometheus' text format, on a port that is closed unless it is asked for."""

from agent.metrics.server import MetricsServer

__all__ = ["MetricsServer"]
