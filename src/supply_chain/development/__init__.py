"""Steps of the development tier: build, test, offer."""
