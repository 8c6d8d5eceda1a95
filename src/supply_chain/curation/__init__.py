"""Steps of the curation tier: store, encrypt, scan, sign."""
