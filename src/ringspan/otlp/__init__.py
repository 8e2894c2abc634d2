"""OTLP: spans as protobuf bytes, and the two ways to send them."""
