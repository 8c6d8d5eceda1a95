"""Dockerfiles that the project reads and the engine's BuildKit builds."""
