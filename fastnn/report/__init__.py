"""A training run on one HTML page that needs nothing but itself: no network, no scripts."""

from fastnn.report.report import write_report

__all__ = ["write_report"]
