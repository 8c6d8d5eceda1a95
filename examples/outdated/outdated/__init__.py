"""A well-behaved service in an image with old packages: see README.md."""
