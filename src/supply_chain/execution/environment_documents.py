"""Reads `deployments/environments/`, and checks that the environments do not contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.execution.environment import (
    ENVIRONMENT_DOCUMENT,
    DockerEnvironment,
    Environment,
    KubernetesEnvironment,
)
from supply_chain.model.documents import read_document


def read_environment(directory: Path, name: str) -> DockerEnvironment | KubernetesEnvironment:
    """Read the environment called `name`.

    Raises `SettingInvalid`, with the names that exist, if there is no such document, or if it contains another name.
    """
    names = sorted(path.stem for path in directory.glob("*.yaml"))
    if name not in names:
        raise SettingInvalid(f"There is no environment {name!r}.\nThere are: {', '.join(names) or 'none'}.")
    environment = read_document(directory / f"{name}.yaml", ENVIRONMENT_DOCUMENT)
    if environment.name != name:
        raise SettingInvalid(f"deployments/environments/{name}.yaml has the name {environment.name!r}.\nUse one name.")
    return environment


def _earlier_environments(environment: Environment, named: Mapping[str, Environment]) -> Iterator[Environment]:
    """Yield the environments that come before an environment, the nearest first; each once if they form a cycle."""
    visited: set[str] = set()
    while (after := environment.after) and after not in visited:
        visited.add(after)
        environment = named[after]
        yield environment


@dataclass(frozen=True)
class EnvironmentDocuments:
    """The environments of a project, each read on its own."""

    readable: tuple[DockerEnvironment | KubernetesEnvironment, ...]
    unreadable: Mapping[str, DeclarationInvalid | SettingInvalid]
    """Name of a document → why it cannot be read."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all, sorted."""
        return tuple(sorted([*(each.name for each in self.readable), *self.unreadable]))


def read_environment_documents(directory: Path) -> EnvironmentDocuments:
    """Read each environment for what may not depend on the others; whether they contradict each other is not checked.

    So a block reaches every environment that can be read.
    """
    readable, unreadable = (
        list[DockerEnvironment | KubernetesEnvironment](),
        dict[str, DeclarationInvalid | SettingInvalid](),
    )
    for path in sorted(directory.glob("*.yaml")):
        try:
            readable.append(read_environment(directory, path.stem))
        except (DeclarationInvalid, SettingInvalid) as error:
            unreadable[path.stem] = error
    return EnvironmentDocuments(tuple(readable), unreadable)


def read_environments(directory: Path) -> tuple[DockerEnvironment | KubernetesEnvironment, ...]:
    """Read all environments.

    Raises `SettingInvalid` if two applications have the same address on one host, if two environments have the same
    namespace or the same file of a repository, or if no image could ever reach an environment.
    """
    environments = tuple(read_environment(directory, path.stem) for path in sorted(directory.glob("*.yaml")))
    named = {environment.name: environment for environment in environments}
    for environment in environments:
        environment.requirements(lambda name: named.get(name) or read_environment(directory, name))
    for environment in environments:
        before = list(_earlier_environments(environment, named))
        if environment in before:
            raise SettingInvalid(
                f"{environment.name} requires a soak in itself: {', '.join(each.name for each in before)}.\n"
                "Take `after` out of one of deployments/environments."
            )
    _check_addresses(each for each in environments if isinstance(each, DockerEnvironment))
    in_clusters = [each for each in environments if isinstance(each, KubernetesEnvironment)]
    _check_namespaces(in_clusters)
    _check_files(in_clusters)
    return environments


def _check_addresses(environments: Iterable[DockerEnvironment]) -> None:
    """Raise `SettingInvalid` if two applications have the same address on one host."""
    taken: dict[tuple[str, str, int], str] = {}
    for environment in environments:
        for application, place in environment.applications.items():
            where = f"{application} in {environment.name}"
            other = taken.setdefault((environment.host, place.address, place.port), where)
            if other != where:
                raise SettingInvalid(
                    f"{other} and {where} are both at {place.address}:{place.port}.\nGive each its own port."
                )


def _check_namespaces(environments: Iterable[KubernetesEnvironment]) -> None:
    """Raise `SettingInvalid` if two environments have the same namespace: each would report the other's pods."""
    taken: dict[str, str] = {}
    for environment in environments:
        other = taken.setdefault(environment.place, environment.name)
        if other != environment.name:
            raise SettingInvalid(
                f"{other} and {environment.name} are both in {environment.place}.\nGive each its own namespace."
            )


def _check_files(environments: Iterable[KubernetesEnvironment]) -> None:
    """Raise `SettingInvalid` if two environments have the digest of an application in the same file."""
    taken: dict[tuple[str, str, str, str], str] = {}
    for environment in environments:
        git = environment.delivery.git if environment.delivery else None
        for application in environment.applications if git else ():
            assert git
            file = git.file_of(application)
            other = taken.setdefault((git.repository, git.branch, file, application), environment.name)
            if other != environment.name:
                raise SettingInvalid(
                    f"{other} and {environment.name} both have the digest of {application} in {file} of "
                    f"{git.repository}.\nGive each its own file."
                )
