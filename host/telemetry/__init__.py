"""Traces for OpenTelemetry: what became of messages, as spans. It is imported when an endpoint is set."""
