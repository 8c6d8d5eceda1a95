"""The model: image references and states, the application manifest, tiers, and containers."""
