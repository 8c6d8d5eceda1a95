"""The hardened container: what the probe and the execution tier start, and the engine they start it on."""
