"""What of a project's files an authorised person signs, and whether it is active: policies, names and environments."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pydantic import Field

from supply_chain.execution.environment import Environment
from supply_chain.execution.environment_documents import read_environments
from supply_chain.policy.activation import ENVIRONMENTS, NAMES, Activation, PolicyState, name_policies, require_active
from supply_chain.policy.loading import (
    DIRECTORY,
    REGISTER,
    compile_project,
    name_versions,
    read_documents,
    read_project_activation,
)
from supply_chain.policy.loading import ENVIRONMENTS as ENVIRONMENT_DOCUMENTS
from supply_chain.policy.names import parse_register, read_register_content
from supply_chain.policy.people import PeopleOwner


def read_signable(project: Path) -> dict[str, bytes]:
    """Return what is signed of a project: name in the list → content. All of it is checked first.

    Of an environment, that is what decides (`Environment.signed_content`), so that a new port or variable needs no
    signature. Raises the errors of reading policies, names and environments.
    """
    documents, register = read_documents(project / DIRECTORY), read_register_content(project / REGISTER)
    compile_project(project, documents)
    parse_register(register, project / REGISTER)
    return {
        **name_policies(documents),
        **name_versions(documents),
        NAMES: register,
        **_decisions(read_environments(project / ENVIRONMENT_DOCUMENTS)),
    }


def _decisions(environments: Iterable[Environment]) -> dict[str, bytes]:
    return {f"{ENVIRONMENTS}{each.name}": each.signed_content for each in environments}


class ProjectState(PolicyState):
    """Whether the policies of a project are active, and what else is not."""

    inactive: dict[str, str] = Field(description="`names.yaml`, or `environments/` and a name → why it is not active")

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not decided, and why; empty if everything is active."""
        policies = () if self.active else (f"no gate decides: {self.why}",)
        return (*policies, *(f"{_consequence(name)}: {why}" for name, why in self.inactive.items()))


def _consequence(name: str) -> str:
    if name == NAMES:
        return "the intake gate does not decide"
    return f"nothing is deployed to {name.removeprefix(ENVIRONMENTS)}"


def read_project_state(project: Path, owner: PeopleOwner, since: datetime | None, now: datetime) -> ProjectState:
    """Return whether what decides is active; raise as `read_activation`, or an error of reading names or environments.

    Policies are not compiled.
    """
    activation = read_project_activation(project, owner, since, now)
    policies = activation.find_policy_state(read_documents(project / DIRECTORY))
    environments = _decisions(read_environments(project / ENVIRONMENT_DOCUMENTS))
    others = {NAMES: read_register_content(project / REGISTER), **environments}
    states = {name: activation.find_state(name, content) for name, content in others.items()}
    inactive = {name: state.why for name, state in states.items() if not state.active}
    return ProjectState(active=policies.active, why=policies.why, inactive=inactive)


def find_environment_state(environment: Environment, activation: Activation) -> PolicyState:
    """Return whether what decides in an environment is active."""
    return activation.find_state(f"{ENVIRONMENTS}{environment.name}", environment.signed_content)


def require_active_environment(environment: Environment, activation: Activation) -> Environment:
    """Return the environment; raise `PolicyUnsigned` if what decides there is not active."""
    state, name = find_environment_state(environment, activation), environment.name
    require_active(state, f"The environment {name} is not active, so the deploy gate does not decide for {name}")
    return environment
