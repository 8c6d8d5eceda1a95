"""Benchmarks for the project's claims about speed."""
