"""One step each, named by the step. A task adds to a core function only what Prefect gives."""
