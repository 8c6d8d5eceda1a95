"""Policy: what a gate demands, and what it answers. Pure: no clock, no network, no files."""
