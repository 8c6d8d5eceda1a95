"""Installs the pinned programs on this machine."""
