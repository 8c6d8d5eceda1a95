"""Evidence: signed in-toto statements about a digest, attached to it as OCI 1.1 referrers."""
