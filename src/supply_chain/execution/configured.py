"""A service as its declaration and its environment configure it, whatever runs it there."""

from __future__ import annotations

from abc import ABC, abstractmethod

from supply_chain.execution.environment import Placement
from supply_chain.model.container import Profile, compute_configuration_digest, make_profile
from supply_chain.model.declaration import Service
from supply_chain.model.image import Digest


class ConfiguredService(ABC):
    """A service in an environment."""

    declaration: Service

    @property
    @abstractmethod
    def placement(self) -> Placement:
        """Its configuration in the environment."""

    @property
    def profile(self) -> Profile:
        """The profile of its containers."""
        return make_profile(self.declaration.runtime)

    @property
    def settings(self) -> dict[str, str]:
        """The declared environment variables, with those of the environment on top."""
        return self.placement.join_settings(self.declaration)

    @property
    def configuration(self) -> Digest:
        """The digest of settings and profile."""
        return compute_configuration_digest(self.settings, self.profile)
