"""The AWS emulator of the laptop: ministack, extended by what it lacks.

It runs in its own Python environment (`deployments/emulator.lock`), so it imports only ministack, hypercorn, the
standard library and, from this project, `errors`. Only `upstream` uses ministack. The emulator adds to it: durable
state (`durable`, `blobs`, `state`), the OCI referrers endpoint (`referrers`), callers that must sign their requests
(`callers`), a registry with authentication and authorisation (`authorise`), ECR's archive, deletions, pages and sizes
as in AWS (`operations`), and ECR's events (`events`).
"""
