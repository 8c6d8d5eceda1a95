"""Image references and states, the application manifest, tiers, and containers."""
