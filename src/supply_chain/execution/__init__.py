"""Steps of the execution tier: deploy, monitor."""
