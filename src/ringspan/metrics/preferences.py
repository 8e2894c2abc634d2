"""What the SDK's variables say of how metrics are exported: their temporality, and the kind of their histograms."""

from __future__ import annotations

import os

from opentelemetry.sdk.metrics.export import AggregationTemporality

VARIABLES = "OTEL_EXPORTER_OTLP_METRICS_"
TEMPORALITY, HISTOGRAM = f"{VARIABLES}TEMPORALITY_PREFERENCE", f"{VARIABLES}DEFAULT_HISTOGRAM_AGGREGATION"
DIFFERENCES = ("DELTA", "LOWMEMORY")  # these two are one for what is not observed by a callback


def temporality() -> AggregationTemporality:
    """Return the temporality preferred for counters and histograms; cumulative unless a variable says otherwise."""
    differences = os.environ.get(TEMPORALITY, "").strip().upper() in DIFFERENCES
    return AggregationTemporality.DELTA if differences else AggregationTemporality.CUMULATIVE


def exponential() -> bool:
    """Whether histograms are to be exponential."""
    return os.environ.get(HISTOGRAM, "").strip().lower() == "base2_exponential_bucket_histogram"
