"""Seed 003's monitor of queries. Needs the extra `api`."""

from vecfleet.tenancy.monitor import PineconeMonitor
from vecfleet.tenancy.query_metrics import QueryMetrics

__all__ = ["PineconeMonitor", "QueryMetrics"]
