"""Reads `deployments/environments/`, and finds the environments that contradict each other or themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from supply_chain.errors import DeclarationInvalid, SettingInvalid, SupplyChainError
from supply_chain.execution.environment import (
    ENVIRONMENT_DOCUMENT,
    DockerEnvironment,
    Environment,
    KubernetesEnvironment,
)
from supply_chain.model.documents import read_document
from supply_chain.text import join_lines, summarize_error

INVALID = (DeclarationInvalid, SettingInvalid)
"""Errors of an environment's document: it does not exist, cannot be read, or contradicts another one."""


def read_environment(directory: Path, name: str) -> DockerEnvironment | KubernetesEnvironment:
    """Read the environment called `name`.

    Raises `SettingInvalid`, with the names that exist, if there is no such document, or if it contains another name.
    """
    names = sorted(path.stem for path in directory.glob("*.yaml"))
    if name not in names:
        raise _missing_error(name, names)
    environment = read_document(directory / f"{name}.yaml", ENVIRONMENT_DOCUMENT)
    if environment.name != name:
        raise SettingInvalid(f"deployments/environments/{name}.yaml has the name {environment.name!r}.\nUse one name.")
    return environment


def _missing_error(name: str, names: Iterable[str]) -> SettingInvalid:
    return SettingInvalid(f"There is no environment {name!r}.\nThere are: {', '.join(names) or 'none'}.")


Contradiction = tuple[SettingInvalid, tuple[str, ...]]
"""An error, and the names of the environments that it is about."""


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

    @cached_property
    def invalid(self) -> Mapping[str, DeclarationInvalid | SettingInvalid]:
        """Name of an environment → why nothing is deployed there.

        It cannot be read, no image could ever reach it, or it has an address, a namespace or a file of another one.
        """
        invalid = dict(self.unreadable)
        for error, names in self._find_contradictions():
            for name in names:
                invalid.setdefault(name, error)
        return invalid

    def find_valid(self, name: str) -> DockerEnvironment | KubernetesEnvironment:
        """Return an environment; raise why it is invalid, or `SettingInvalid` if it does not exist."""
        if name in self.invalid:
            raise self.invalid[name]
        return self._find(name)

    def _find(self, name: str) -> DockerEnvironment | KubernetesEnvironment:
        for each in self.readable:
            if each.name == name:
                return each
        if name in self.unreadable:
            raise SettingInvalid(
                f"The document of {name} cannot be read: {summarize_error(self.unreadable[name])}.\n"
                f"Correct deployments/environments/{name}.yaml."
            )
        raise _missing_error(name, self.names)

    def _find_contradictions(self) -> Iterator[Contradiction]:
        """Yield how the environments that can be read contradict each other or themselves."""
        for environment in self.readable:
            try:
                environment.requirements(self._find)
            except SettingInvalid as error:
                yield error, (environment.name,)
        yield from _find_cycles(self.readable)
        yield from _find_shared_addresses(each for each in self.readable if isinstance(each, DockerEnvironment))
        in_clusters = [each for each in self.readable if isinstance(each, KubernetesEnvironment)]
        yield from _find_shared_namespaces(in_clusters)
        yield from _find_shared_files(in_clusters)


def _find_cycles(environments: Sequence[Environment]) -> Iterator[Contradiction]:
    """Yield the environments that require a soak in themselves, through others."""
    named = {each.name: each for each in environments}
    for environment in environments:
        before = list(_earlier_environments(environment, named))
        if environment in before:
            error = SettingInvalid(
                f"{environment.name} requires a soak in itself: {', '.join(each.name for each in before)}.\n"
                "Take `after` out of one of deployments/environments."
            )
            yield error, (environment.name,)


def _earlier_environments(environment: Environment, named: Mapping[str, Environment]) -> Iterator[Environment]:
    """Yield the environments that come before an environment, the nearest first; each once if they form a cycle."""
    visited: set[str] = set()
    while (after := environment.after) in named and after not in visited:
        assert after
        visited.add(after)
        environment = named[after]
        yield environment


def _find_shared_addresses(environments: Iterable[DockerEnvironment]) -> Iterator[Contradiction]:
    """Yield the addresses on one host that two applications have."""
    taken: dict[tuple[str, str, int], tuple[str, str]] = {}
    for environment in environments:
        for application, place in environment.applications.items():
            own = environment.name, f"{application} in {environment.name}"
            other = taken.setdefault((environment.host, place.address, place.port), own)
            if other != own:
                error = SettingInvalid(
                    f"{other[1]} and {own[1]} are both at {place.address}:{place.port}.\nGive each its own port."
                )
                yield error, (other[0], own[0])


def _find_shared_namespaces(environments: Iterable[KubernetesEnvironment]) -> Iterator[Contradiction]:
    """Yield the namespaces that two environments have: each would report the other's pods."""
    taken: dict[str, str] = {}
    for environment in environments:
        other = taken.setdefault(environment.place, environment.name)
        if other != environment.name:
            error = SettingInvalid(
                f"{other} and {environment.name} are both in {environment.place}.\nGive each its own namespace."
            )
            yield error, (other, environment.name)


def _find_shared_files(environments: Iterable[KubernetesEnvironment]) -> Iterator[Contradiction]:
    """Yield the files in which two environments have the digest of an application."""
    taken: dict[tuple[str, str, str, str], str] = {}
    for environment in environments:
        git = environment.delivery.git if environment.delivery else None
        for application in environment.applications if git else ():
            assert git
            file = git.locate_file(application)
            other = taken.setdefault((git.repository, git.branch, file, application), environment.name)
            if other != environment.name:
                error = SettingInvalid(
                    f"{other} and {environment.name} both have the digest of {application} in {file} of "
                    f"{git.repository}.\nGive each its own file."
                )
                yield error, (other, environment.name)


def read_environment_documents(directory: Path) -> EnvironmentDocuments:
    """Read each environment on its own, so that an invalid one hides no other."""
    readable, unreadable = (
        list[DockerEnvironment | KubernetesEnvironment](),
        dict[str, DeclarationInvalid | SettingInvalid](),
    )
    for path in sorted(directory.glob("*.yaml")):
        try:
            readable.append(read_environment(directory, path.stem))
        except INVALID as error:
            unreadable[path.stem] = error
    return EnvironmentDocuments(tuple(readable), unreadable)


def read_environments(directory: Path) -> tuple[DockerEnvironment | KubernetesEnvironment, ...]:
    """Read all environments; raise the error of the first that is invalid (`EnvironmentDocuments.invalid`)."""
    documents = read_environment_documents(directory)
    for error in documents.invalid.values():
        raise error
    return documents.readable


def join_invalid_errors(invalid: Mapping[str, SupplyChainError], consequence: str) -> SettingInvalid:
    """Return one error for the errors of environments, by name; `consequence` is a sentence without its full stop."""
    lines = "".join(f"  {name}: {join_lines(error)}\n" for name, error in invalid.items())
    return SettingInvalid(f"{consequence}:\n{lines}Correct these documents in deployments/environments.")
