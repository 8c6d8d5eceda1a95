"""The container supply chain model: code becomes containers through three tiers.

This package does not depend on the tool that schedules it. It declares what it needs from outside
as a Protocol; `adapters` implements those with real tools.
"""
