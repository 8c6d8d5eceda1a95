"""Adapters that read git repositories as data and take the snapshot of an application's source."""
