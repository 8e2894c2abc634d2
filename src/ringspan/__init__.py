"""Every HTTP request a Linux host serves or makes, as OpenTelemetry, with no change to any application."""

__version__ = "0.1.0"
