"""Files that others may change meanwhile, and files that nobody else may read."""
