"""Image references and states, the declaration of an application, tiers, and containers."""
