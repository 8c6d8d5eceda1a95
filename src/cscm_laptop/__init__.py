"""The embedded default: a complete supply chain on one machine."""
