"""The nodes of a cluster that an environment reserves: by classification, by owner and for single applications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from supply_chain.errors import SettingInvalid
from supply_chain.model.image import Model
from supply_chain.model.manifest import Classification, Name, Service, Word

LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class Toleration(Model):
    """A taint of nodes that pods tolerate."""

    key: LabelKey = Field(description="the taint's key")
    value: LabelValue | None = Field(default=None, description="the taint's value; null: any")
    effect: Effect | None = Field(default=None, description="the taint's effect; null: any")

    def tolerates(self, key: str, value: str, effect: str) -> bool:
        """Return whether pods tolerate this taint."""
        return self.key == key and self.value in (None, value) and self.effect in (None, effect)


class NodeRequirement(Model):
    """The nodes on which pods run."""

    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="labels that such a node has")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="taints of such nodes")


class ReservedNodes(Model):
    """On which nodes pods run. Of several requirements that concern an application, all apply."""

    classifications: dict[Classification, NodeRequirement] = Field(
        default_factory=dict, description="classification → its nodes; others run on any node without a taint"
    )
    owners: dict[Word, NodeRequirement] = Field(default_factory=dict, description="owner of applications → its nodes")
    applications: dict[Name, NodeRequirement] = Field(default_factory=dict, description="application → its nodes")

    def required_by(self, manifest: Service) -> NodeRequirement:
        """Return what an application requires of its nodes.

        Raises `SettingInvalid` if two requirements give a label different values: no node could have both.
        """
        labels: dict[str, str] = {}
        requirements = [*self._concerning(manifest)]
        for key, value in (pair for each in requirements for pair in each.labels.items()):
            if labels.setdefault(key, value) != value:
                raise SettingInvalid(
                    f"`nodes` requires both {key}={labels[key]} and {key}={value} for {manifest.name}.\n"
                    "Use different labels for classifications, owners and applications."
                )
        tolerations = dict.fromkeys(each for requirement in requirements for each in requirement.tolerations)
        return NodeRequirement(labels=labels, tolerations=tuple(tolerations))

    def _concerning(self, manifest: Service) -> Iterator[NodeRequirement]:
        found = (
            self.classifications.get(manifest.classification),
            self.owners.get(manifest.owner),
            self.applications.get(manifest.name),
        )
        yield from (each for each in found if each)
