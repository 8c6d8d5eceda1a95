"""The nodes of a cluster that an environment reserves: by classification, by owner and for single applications."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from supply_chain.errors import SettingInvalid
from supply_chain.model.declaration import Classification, Name, Service, Word
from supply_chain.model.image import Model

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

    key: LabelKey = Field(description="of the taint")
    value: LabelValue | None = Field(default=None, description="null: any")
    effect: Effect | None = Field(default=None, description="null: any")

    def tolerates(self, key: str, value: str, effect: str) -> bool:
        """Return whether pods tolerate this taint."""
        return self.key == key and self.value in (None, value) and self.effect in (None, effect)


class NodeRequirement(Model):
    """The nodes on which pods run."""

    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="of the nodes")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="taints of the nodes")


class ReservedNodes(NodeRequirement):
    """Nodes that are reserved for some applications; a key that is not given concerns all."""

    classifications: tuple[Classification, ...] | None = Field(default=None, description="null: all")
    owners: tuple[Word, ...] | None = Field(default=None, description="null: all")
    applications: tuple[Name, ...] | None = Field(default=None, description="null: all")

    def concerns(self, declaration: Service) -> bool:
        """Return whether the nodes are for an application."""
        pairs = (
            (declaration.classification, self.classifications),
            (declaration.owner, self.owners),
            (declaration.name, self.applications),
        )
        return all(listed is None or value in listed for value, listed in pairs)


def compute_required_nodes(reserved: Iterable[ReservedNodes], declaration: Service) -> NodeRequirement:
    """Return what an application requires of its nodes: everything of all entries that concern it.

    Raises `SettingInvalid` if two of them give a label different values: no node could have both.
    """
    labels: dict[str, str] = {}
    entries = [each for each in reserved if each.concerns(declaration)]
    for key, value in (pair for each in entries for pair in each.labels.items()):
        if labels.setdefault(key, value) != value:
            raise SettingInvalid(
                f"`nodes` requires both {key}={labels[key]} and {key}={value} for {declaration.name}.\n"
                "Use different labels for classifications, owners and applications."
            )
    tolerations = dict.fromkeys(each for entry in entries for each in entry.tolerations)
    return NodeRequirement(labels=labels, tolerations=tuple(tolerations))
