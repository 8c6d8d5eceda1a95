"""One module per real tool. Each keeps a promise that a package of the core declared."""
