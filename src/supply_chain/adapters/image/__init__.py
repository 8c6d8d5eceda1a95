"""The content of an image: its layers, the file system that they make, and what the files are."""
