"""Enforcement by a cluster itself: its API server admits only images that the deploy gate admits to a namespace."""
