"""Policy: what a gate demands, and what it answers. Judging is pure; dossiers and verdicts go through the store."""
