"""Everything that depends on Prefect: locks, retries, run states, events, artifacts, registration, starting runs."""
