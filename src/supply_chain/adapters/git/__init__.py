"""Adapters that read git repositories as data, take the snapshot of an application's source, and commit promotions."""
