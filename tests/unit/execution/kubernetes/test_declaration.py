"""How what git delivers is held against the declaration of its application."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from supply_chain.execution.kubernetes.declaration import judge_deployment
from supply_chain.model.declaration import ContainerCommand, Runtime

RUNTIME = Runtime(
    writable=("/tmp",), capabilities=("CHOWN",), commands=(ContainerCommand(args=("serve",)),),
    configuration_paths=("/etc/app",),
)  # fmt: skip
SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}  # fmt: skip
DEPLOYMENT: dict[str, Any] = {
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "registry/curated/hello",
                        "args": ["serve"],
                        "resources": {"limits": {"cpu": "1", "memory": "128Mi"}},
                        "securityContext": SECURITY,
                        "terminationMessagePath": "/dev/termination-log",
                        "volumeMounts": [
                            {"name": "tmp", "mountPath": "/tmp"},
                            {"name": "settings", "mountPath": "/etc/app/settings"},
                        ],
                    }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {
                    "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "serviceAccount": "web",
                "serviceAccountName": "web",
                "volumes": [
                    {"name": "tmp", "emptyDir": {"medium": "Memory"}},
                    {"name": "settings", "configMap": {"name": "settings", "defaultMode": 420}},
                ],
            }
        }
    }
}  # fmt: skip
ACCOUNT = {"metadata": {"name": "web"}, "automountServiceAccountToken": False}


def judge(pod=None, container=None, accounts=(ACCOUNT,)):
    """Return the violations of the Deployment with other fields of its pod and container."""
    deployment = copy.deepcopy(DEPLOYMENT)
    spec = deployment["spec"]["template"]["spec"]
    spec["containers"][0] |= container or {}
    return list(judge_deployment({"spec": {"template": {"spec": {**spec, **(pod or {})}}}}, accounts, RUNTIME))


def test_declared_deployment_with_defaults_of_api_server_has_no_violation() -> None:
    assert judge() == []
    assert judge({"automountServiceAccountToken": False}, accounts=()) == []


@pytest.mark.parametrize(
    ("pod", "container", "violation"),
    [
        ({"dnsPolicy": "None"}, {}, "dnsPolicy is not allowed"),
        ({"schedulerName": "other"}, {}, "schedulerName is not allowed"),
        ({"serviceAccount": "other"}, {}, "serviceAccount is not allowed"),
        ({"hostPID": True}, {}, "hostPID is not allowed"),
        ({"terminationGracePeriodSeconds": 66}, {}, "terminationGracePeriodSeconds has to be at most 65"),
        ({"automountServiceAccountToken": True}, {}, "automountServiceAccountToken has to be false"),
        ({}, {"terminationMessagePath": "/etc"}, "web: terminationMessagePath is not allowed"),
        ({}, {"args": ["sh"]}, "web: command and args are not among the declared `runtime.commands`"),
        ({}, {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
         "resources.limits.memory is 1073741824, and 134217728 is declared"),
        ({"volumes": [{"name": "tmp", "emptyDir": {}}, DEPLOYMENT["spec"]["template"]["spec"]["volumes"][1]]}, {},
         "volume tmp: emptyDir has to be in memory (`medium: Memory`)"),
        ({"securityContext": {}}, {}, "securityContext.runAsGroup differs from the hardened profile"),
    ],
)  # fmt: skip
def test_deployment_with_more_permissions_than_declared_is_violation(pod, container, violation) -> None:
    assert violation in judge(pod, container)


def test_annotation_that_may_grant_permissions_is_violation() -> None:
    """A network of its own, or a role of the cloud. What a chart writes so that its pods restart is allowed."""
    template = DEPLOYMENT["spec"]["template"]
    notes = {"k8s.v1.cni.cncf.io/networks": "other", "checksum/config": "1"}
    deployment = {"spec": {"template": {**template, "metadata": {"annotations": notes, "labels": {"app": "web"}}}}}

    assert list(judge_deployment(deployment, [ACCOUNT], RUNTIME)) == [
        "template.metadata.annotations: k8s.v1.cni.cncf.io/networks is not allowed"
    ]


@pytest.mark.parametrize("account", [None, {}, {"automountServiceAccountToken": True}])
def test_mounted_service_account_token_is_violation(account) -> None:
    """The cluster mounts it by itself."""
    accounts = (
        [] if account is None else [{"metadata": {"name": "web"}, **account}, {**ACCOUNT, "metadata": {"name": "x"}}]
    )

    assert judge(accounts=accounts) == ["automountServiceAccountToken has to be false"]
