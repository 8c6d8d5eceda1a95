"""Adapters that read the content of an image: its layers, the file system that they form, and its files."""
