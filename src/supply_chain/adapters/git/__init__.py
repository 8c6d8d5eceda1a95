"""git repositories read as data, and the snapshot of an application's source."""
