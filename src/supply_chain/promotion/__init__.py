"""Promotion: what starts the next tier, and what it has to find out first so that nothing is done twice."""
