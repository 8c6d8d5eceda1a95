"""The values that gates judge cannot change between reading and judging."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
from pydantic import BaseModel

import supply_chain.evidence
import supply_chain.policy
import supply_chain.vulnerability
from supply_chain.policy.facts import DeployFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.policies import GatePolicy, Policy, Rule

PACKAGES = (supply_chain.evidence, supply_chain.policy, supply_chain.vulnerability)
MODULES = [
    importlib.import_module(m.name) for p in PACKAGES for m in pkgutil.iter_modules(p.__path__, f"{p.__name__}.")
]
CLASSES = [each for m in MODULES for _, each in inspect.getmembers(m, inspect.isclass) if each.__module__ == m.__name__]
VALUES = [each for each in CLASSES if dataclasses.is_dataclass(each) or issubclass(each, BaseModel)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__qualname__)
def test_value_type_is_frozen(value):
    """Every rule receives the same values."""
    frozen = value.model_config["frozen"] if issubclass(value, BaseModel) else value.__dataclass_params__.frozen

    assert frozen is True


def test_value_types_are_found():
    """Without values the test above would prove nothing."""
    assert {IntakeFacts, ReleaseFacts, DeployFacts, GatePolicy, Policy, Rule, Admitted} < set(VALUES) and len(
        VALUES
    ) > 20
