"""Deployment to Kubernetes: what is applied to a cluster, and how it is observed."""
