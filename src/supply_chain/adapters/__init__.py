"""The real tools, a module for each, and what several share. Each keeps a promise that a package of the core made."""
