"""How an environment sets the delivery by a git repository, and the controller that applies it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from supply_chain.execution.kubernetes.names import Label, ObjectName
from supply_chain.model.declaration import Duration
from supply_chain.model.image import Model

FileKind = Literal["kustomize", "helm", "manifest"]
"""How a file names an image and its digest."""
APPLICATION_KEY = "{application}"
"""Stands for an application's name in a path."""


class FluxKustomization(Model):
    """A Kustomization of Flux."""

    namespace: Label = Field(description="its namespace")
    name: ObjectName = Field(description="its name")


class ArgoApplication(Model):
    """An Application of Argo CD."""

    namespace: Label = Field(description="its namespace")
    name: ObjectName = Field(description="its name")


def _check_path(value: str) -> str:
    parts = value.replace(APPLICATION_KEY, "application").split("/")
    if not value.isprintable() or any(part in ("", ".", "..", ".git") for part in parts):
        raise ValueError(f"has to be the path of a file below the root, in which {APPLICATION_KEY} may stand")
    return value


class GitDelivery(Model):
    """The file of a git repository in which a promotion commits the digest, for a controller that applies it."""

    repository: str = Field(description="its block")
    branch: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w./-]*$", max_length=200)] = Field(
        default="main", description="its branch"
    )
    path: Annotated[str, AfterValidator(_check_path)] = Field(
        description="the file with the digest; {application} becomes the application's name"
    )
    kind: FileKind = Field(
        description="where the image's name is: `newName` in a kustomization, `repository` in values, or `image`"
    )
    timeout: Duration = Field(default=600, description="how long the controller may take")
    flux: FluxKustomization | None = Field(
        default=None, description="the Kustomization that applies it; its errors are reported"
    )
    argo: ArgoApplication | None = Field(
        default=None, description="the Application that applies it; its errors are reported"
    )

    @model_validator(mode="after")
    def _check_controller(self) -> Self:
        if self.flux and self.argo:
            raise ValueError("either Flux or Argo CD applies it: write `flux` or `argo`")
        return self

    def locate_file(self, application: str) -> str:
        """Return the path of the file for an application."""
        return self.path.replace(APPLICATION_KEY, application)


class Delivery(Model):
    """How a digest gets into the namespace, if the chain does not apply objects itself."""

    git: GitDelivery = Field(description="commits, which a controller applies")
