"""What exists because of Prefect: locks, retries, run states, events, artifacts, registration, and how runs start."""
