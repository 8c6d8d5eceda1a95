"""The steps of the flows, one module each. A task adds to a core function only what Prefect provides."""
