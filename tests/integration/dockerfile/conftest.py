"""Dockerfiles are read by us and built by the engine's BuildKit."""
