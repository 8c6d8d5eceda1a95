"""One step each, named by the step, and what steps share. A task adds to a core function only what Prefect gives."""
