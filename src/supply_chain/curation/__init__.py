"""The curation tier's steps: store, encrypt, scan, sign."""
