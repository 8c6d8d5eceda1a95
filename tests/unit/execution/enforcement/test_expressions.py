"""What the expressions of the admission policies answer, evaluated by CEL itself (the API server's is another)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from cel_expr_python import cel

from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.enforcement.policies import (
    ADMITTED_IMAGES,
    NO_PUBLISHING_PODS,
    PUBLISHER,
    SYSTEM,
    WRITER,
    Object,
)
from supply_chain.execution.enforcement.verification import _new_images

NAMES = ("object", "oldObject", "params", "request", "variables")
ENVIRONMENT = cel.NewEnv(
    config=cel.NewEnvConfigFromYaml("extensions:\n- name: optional\n- name: strings\n"),
    variables=dict.fromkeys(NAMES, cel.Type.DYN),
)
GOOD, BLOCKED = (f"registry.test/curated/hello@sha256:{letter * 64}" for letter in "ab")
PARAMETERS = {
    "metadata": {"resourceVersion": "1"},
    "data": AdmittedImages(
        environment="staging", repositories="registry.test/curated/", images={"hello": {f"sha256:{'a' * 64}": ""}}
    ).data,
}


def evaluate(expression: str, **values: Any) -> Any:
    data = {**dict.fromkeys(NAMES), **values}
    return ENVIRONMENT.compile(expression).eval(data=data).plain_value()


def admits(policy: Object, **values: Any) -> bool:
    """Return whether a policy admits a request, as an API server evaluates it."""
    variables: dict[str, Any] = {}
    for each in policy.get("variables", ()):
        variables[each["name"]] = evaluate(each["expression"], variables=variables, **values)
    return all(evaluate(each["expression"], variables=variables, **values) for each in policy["validations"])


def pod(image: str, **spec: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": image}], **spec}}


def ephemeral(name: str, image: str) -> dict[str, Any]:
    return {"ephemeralContainers": [{"name": name, "image": image, "command": ["sh"]}]}


@pytest.mark.parametrize(
    ("old", "new", "admitted", "added"),
    [
        (None, pod(GOOD), True, [GOOD]),
        (None, pod(BLOCKED), False, [BLOCKED]),
        (pod(BLOCKED), pod(BLOCKED), True, []),
        (pod(GOOD), pod(BLOCKED), False, [BLOCKED]),
        (pod(BLOCKED), pod(BLOCKED, **ephemeral("debug", BLOCKED)), False, [BLOCKED]),
        (pod(BLOCKED), pod(BLOCKED, **ephemeral("debug", GOOD)), True, [GOOD]),
        (pod(GOOD, **ephemeral("debug", BLOCKED)), pod(GOOD, **ephemeral("debug", BLOCKED)), True, []),
        (pod(GOOD, **ephemeral("debug", BLOCKED)), pod(BLOCKED, **ephemeral("debug", BLOCKED)), False, [BLOCKED]),
    ],
    ids=["new", "new and blocked", "unchanged", "changed", "added with its own image", "added", "label", "moved"],
)
def test_update_is_judged_by_added_images(old, new, admitted, added):
    """What runs may be changed after a block, but gains no container of the blocked image, which has a command."""
    assert admits(ADMITTED_IMAGES, object=new, oldObject=old, params=PARAMETERS) is admitted
    assert evaluate(_new_images(), object=new, oldObject=old) == added
    assert evaluate(_new_images(), object=new, oldObject={} if old is None else old) == added


TOKEN = {
    "username": f"system:serviceaccount:{SYSTEM}:{PUBLISHER}",
    "extra": {"authentication.kubernetes.io/credential-id": ["JTI=7ee52be0"]},
}


@pytest.mark.parametrize(
    ("changes", "admitted"),
    [
        ({}, True),
        ({"extra": {}}, False),
        ({"extra": None}, False),
        ({"extra": {"authentication.kubernetes.io/credential-id": ["X509SHA256=7ee5"]}}, False),
        ({"username": "admin"}, False),
    ],
    ids=["token", "impersonated", "without extra", "certificate", "administrator"],
)
def test_parameters_are_written_with_a_token_of_the_publisher_only(changes, admitted):
    user = {key: value for key, value in {**deepcopy(TOKEN), **changes}.items() if value is not None}

    assert admits(WRITER, request={"userInfo": user}) is admitted


def test_pod_of_the_publisher_is_refused():
    """Another one in its namespace is not."""
    assert not admits(NO_PUBLISHING_PODS, object=pod(GOOD, serviceAccountName=PUBLISHER))
    assert admits(NO_PUBLISHING_PODS, object=pod(GOOD, serviceAccountName="default"))
    assert admits(NO_PUBLISHING_PODS, object=pod(GOOD))
