"""The laptop: a complete supply chain on one machine."""
