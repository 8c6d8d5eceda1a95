"""Clients of Kubernetes' API, and the credentials for it."""
