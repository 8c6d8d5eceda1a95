"""The Docker engine and BuildKit: builds, their limits and their record, and containers."""
