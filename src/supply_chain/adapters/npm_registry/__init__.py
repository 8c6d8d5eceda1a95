"""Registries of npm packages, such as npmjs.org's."""

from supply_chain.adapters.npm_registry.registry import NpmRegistries

__all__ = ["NpmRegistries"]
