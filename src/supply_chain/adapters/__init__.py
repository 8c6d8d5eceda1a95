"""Adapters to real tools, a module for each tool. Each implements a Protocol of another package of the model."""
