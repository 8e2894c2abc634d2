"""Metrics of every exchange: aggregated by column, exported as the SDK's metric data."""
