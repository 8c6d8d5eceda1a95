"""The container supply chain model: code becomes containers through three tiers.

This package knows nothing of the tool that schedules it. What it needs from the world it declares
as a Protocol; `adapters` implements those on real tools.
"""
