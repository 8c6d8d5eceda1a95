"""The execution tier's steps: deploy, monitor."""
