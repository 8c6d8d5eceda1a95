"""The development tier's steps: build, test, offer."""
