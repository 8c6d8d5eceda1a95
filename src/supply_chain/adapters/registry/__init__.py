"""An OCI registry over HTTP: manifests, blobs and referrers (OCI distribution 1.1)."""
