"""Adapters for the Docker engine and BuildKit: builds, build limits, build records and containers."""
