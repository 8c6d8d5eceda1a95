"""The AWS emulator of the laptop: ministack, and before it what it lacks.

Runs in an environment of its own (`deployments/emulator.lock`), so it imports ministack, hypercorn,
the standard library and, of ours, `errors` alone. What it adds: durable state (`durable`, `blobs`,
`state`), the OCI referrers endpoint (`referrers`), callers that have to sign (`callers`), and a registry
that asks who comes and what they may (`authorise`); of ECR the archive, deletions, pages and sizes as
AWS has them (`operations`), and its events (`events`).
"""
