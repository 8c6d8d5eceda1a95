"""Delivery through a git repository, from which an organisation's own controller applies what a namespace runs."""
