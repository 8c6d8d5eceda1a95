"""A service that greets: the smallest thing worth taking through the chain."""
