"""The command. It may import everything, and holds no logic."""
