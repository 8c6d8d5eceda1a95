"""A real Kubernetes cluster of one node on this machine: `cscm cluster`."""
