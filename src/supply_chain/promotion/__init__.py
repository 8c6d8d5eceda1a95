"""Promotion: what starts the next tier, and the checks before it so that nothing is done twice."""
