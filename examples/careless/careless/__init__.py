"""Broken on purpose: see README.md."""
