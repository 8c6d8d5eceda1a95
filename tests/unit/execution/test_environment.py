"""Environments: their declarations and the addresses of their applications."""

import pytest

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.execution.environment import (
    DockerEnvironment,
    DockerPlacement,
    KubernetesEnvironment,
    KubernetesPlacement,
)
from supply_chain.execution.environment_documents import read_environment, read_environments


def write(directory, name, text):
    (directory / f"{name}.yaml").write_text(f"name: {name}\n{text}")


def test_missing_placement_error_names_document_to_edit():
    """The error names the path of the environment's document."""
    with pytest.raises(SettingInvalid, match=r"deployments/environments/staging\.yaml"):
        DockerEnvironment(name="staging").placement("hello")


@pytest.mark.parametrize(
    "applications",
    [
        "{a: {port: 80}}",
        "{a: {port: 8080, address: 10.0.0.1}}",
        "{a: {port: 8080, environment: {'NOT-A-NAME': x}}}",
        "{a: {port: 8080, secret: x}}",
        "{a: {port: 8080}, b: {port: 8080}}",
    ],
)
def test_environment_refuses_invalid_placement(tmp_path, applications):
    """Invalid are privileged ports, other hosts, invalid variable names, unknown keys and duplicate addresses."""
    write(tmp_path, "staging", f"applications: {applications}")
    with pytest.raises(DeclarationInvalid):
        read_environment(tmp_path, "staging")


def test_environment_accepts_same_port_at_two_addresses(tmp_path):
    """An address is the pair of IP address and port."""
    write(tmp_path, "staging", "applications: {a: {port: 8080}, b: {port: 8080, address: 127.0.0.2}}")
    placement = read_environment(tmp_path, "staging").placement("b")
    assert isinstance(placement, DockerPlacement) and placement.port == 8080


@pytest.mark.parametrize(
    ("text", "seconds"), [("30min", 1800), ("2h", 7200), ("1d", 86400), ("90s", 90), ("45", 45), ("null", None)]
)
def test_soak_is_parsed_as_duration(tmp_path, text, seconds):
    """A number without a unit means seconds."""
    write(tmp_path, "staging", f"soak: {text}")

    assert read_environment(tmp_path, "staging").soak == seconds


@pytest.mark.parametrize(
    "text",
    [
        "soak: 0",
        "soak: -1h",
        "soak: soon",
        "soak: 1w",
        "soak: 91d",
        "approval: yes",
        "approval: maybe",
        "tests: yes",
        "approvers: 2",
        "approval: required\napprovers: 2",
        "approval: signed\napprovers: 0",
    ],
)
def test_environment_refuses_invalid_soak_approval_or_tests(tmp_path, text):
    """An ambiguous value is not guessed."""
    write(tmp_path, "staging", text)
    with pytest.raises(DeclarationInvalid):
        read_environment(tmp_path, "staging")


@pytest.mark.parametrize(
    ("text", "approval", "number"),
    [("", False, 0), ("approval: required", True, 0), ("approval: signed", True, 1),
     ("approval: signed\napprovers: 2", True, 2)],
)  # fmt: skip
def test_environment_asks_for_signed_approvals(tmp_path, text, approval, number):
    """An answer in a form is enough unless it says `signed`."""
    write(tmp_path, "production", text)
    found = read_environment(tmp_path, "production")
    asked = found.requirements(lambda name: found)

    assert (found.requires_approval, asked.approval, asked.signed_approvals) == (approval, approval, number)


def test_environment_can_require_test_report(tmp_path):
    """This does not depend on `after`."""
    write(tmp_path, "staging", "soak: 2h\ntest_report: required")
    write(tmp_path, "production", "after: staging\ntest_report: required")
    write(tmp_path, "lab", "test_report: optional")

    found = {each.name: each for each in read_environments(tmp_path)}

    required = {name: each.requirements(lambda other: found[other]) for name, each in found.items()}
    assert {name: each.test_report for name, each in required.items()} == {
        "staging": True, "production": True, "lab": False,
    }  # fmt: skip


def test_environment_has_no_approval_and_no_soak_by_default(tmp_path):
    """Without a soak setting, images are not promoted from the environment."""
    write(tmp_path, "staging", "")
    write(tmp_path, "production", "approval: required")

    assert [(each.requires_approval, each.soak) for each in read_environments(tmp_path)] == [
        (True, None),
        (False, None),
    ]


CLUSTER = "target: kubernetes\ncluster: c\nnamespace: shop\n"


def test_environment_in_cluster_is_read(tmp_path):
    """Its applications have pods and no address."""
    write(tmp_path, "staging", f"{CLUSTER}applications: {{a: {{replicas: 3, secrets: {{T: {{secret: s, key: k}}}}}}}}")

    found = read_environment(tmp_path, "staging")

    placement = found.placement("a")
    assert (found.place, isinstance(placement, KubernetesPlacement) and placement.replicas) == ("c/shop", 3)


@pytest.mark.parametrize(
    "text",
    [
        f"{CLUSTER}host: laptop",
        f"{CLUSTER}agents: []",
        f"{CLUSTER}applications: {{a: {{port: 8080}}}}",
        f"{CLUSTER}applications: {{a: {{environment: {{T: x}}, secrets: {{T: {{secret: s, key: k}}}}}}}}",
        "target: kubernetes\ncluster: c",
        "target: elsewhere",
        "cluster: c",
        "target: docker\nnamespace: shop",
        "applications: {a: {port: 8080, replicas: 2}}",
    ],
)
def test_environment_refuses_keys_of_other_target(tmp_path, text):
    """A key without an effect would be a mistake that nobody notices."""
    write(tmp_path, "staging", text)
    with pytest.raises(DeclarationInvalid):
        read_environment(tmp_path, "staging")


def test_enforcement_belongs_to_a_namespace(tmp_path):
    """A container host has no API server that could refuse anything; a mode is one of three."""
    kubernetes = "target: kubernetes\ncluster: main\nnamespace: apps\n"
    write(tmp_path, "production", kubernetes + "enforcement: {mode: audit}")
    found = read_environment(tmp_path, "production")
    assert (
        isinstance(found, KubernetesEnvironment)
        and found.enforcement
        and found.enforcement.tolerated_refusals == ("scan.old", "verdict.ended")
    )

    for text in ("enforcement: {mode: deny}", kubernetes + "enforcement: {mode: off}", kubernetes + "enforcement: {}"):
        write(tmp_path, "wrong", text)
        with pytest.raises(DeclarationInvalid):
            read_environment(tmp_path, "wrong")


GIT = "delivery: {git: {repository: r, kind: helm, path: 'x/{application}.yaml'}}\n"


def test_delivery_names_the_file_of_each_application(tmp_path):
    """What people sign of the environment includes where its digests come from."""
    write(tmp_path, "staging", f"{CLUSTER}applications: {{a: {{}}}}\n{GIT}")
    write(tmp_path, "production", "target: kubernetes\ncluster: c\nnamespace: other\n")

    production, staging = read_environments(tmp_path)

    assert isinstance(staging, KubernetesEnvironment) and staging.delivery
    assert staging.delivery.git.locate_file("a") == "x/a.yaml" and staging.delivery.git.timeout == 600
    assert b"x/{application}.yaml" in staging.signed_content and b"delivery" not in production.signed_content


@pytest.mark.parametrize(
    "text",
    [
        f"{GIT}",
        f"{CLUSTER}{GIT}applications: {{a: {{replicas: 2}}}}",
        f"{CLUSTER}{GIT}response: {{isolate: [image.blocked]}}",
        f"{CLUSTER}{GIT.replace('helm', 'jsonnet')}",
        f"{CLUSTER}{GIT.replace('x/', '/x/')}",
        f"{CLUSTER}{GIT.replace('x/', '../')}",
        f"{CLUSTER}{GIT.replace('x/', '.git/')}",
        f"{CLUSTER}{GIT.replace('kind: helm, ', '')}",
        f"{CLUSTER}delivery: {{}}",
        f"{CLUSTER}{GIT.replace('repository: r', 'repository: r, branch: -x')}",
    ],
)
def test_delivery_without_effect_or_outside_of_repository_is_refused(tmp_path, text):
    """Only the repository says how pods run; the chain writes one file in it."""
    write(tmp_path, "staging", text)
    with pytest.raises(DeclarationInvalid):
        read_environment(tmp_path, "staging")


def test_response_isolates_after_known_codes_only(tmp_path):
    """A code that nothing reports would isolate nothing. A container host isolates nothing."""
    kubernetes = "target: kubernetes\ncluster: main\nnamespace: apps\n"
    write(tmp_path, "production", kubernetes + "response: {isolate: [image.blocked, drift.digest]}")
    found = read_environment(tmp_path, "production")
    assert isinstance(found, KubernetesEnvironment) and found.response.recovery == "roll-back"

    for text in ("response: {}", kubernetes + "response: {isolate: [scan.old]}",
                 kubernetes + "response: {recovery: none}"):  # fmt: skip
        write(tmp_path, "wrong", text)
        with pytest.raises(DeclarationInvalid):
            read_environment(tmp_path, "wrong")


def test_environment_without_response_needs_no_new_signature(tmp_path):
    """What people signed before has the same content."""
    write(tmp_path, "production", "target: kubernetes\ncluster: main\nnamespace: apps\n")

    assert b"response" not in read_environment(tmp_path, "production").signed_content


def test_values_belong_to_a_chart() -> None:
    """Without `manifests`, they would be read by nothing."""
    assert KubernetesPlacement(manifests="charts/hello", values="values/test.yaml").values == "values/test.yaml"
    with pytest.raises(ValueError, match="`values` without `manifests`"):
        KubernetesPlacement(values="test.yaml")
    with pytest.raises(ValueError, match="values"):
        KubernetesPlacement(manifests="hello", values="../test.yaml")


COLLECTOR = f"{{image: 'curated/base/python@sha256:{'a' * 64}'}}"


@pytest.mark.parametrize(
    "response",
    [
        "{collector: {image: 'curated/base/python:latest'}}",
        f"{{collector: {{image: 'base/python@sha256:{'a' * 64}'}}}}",
        f"{{collector: {{image: 'curated/a@sha256:{'a' * 64}', contents: -1}}}}",
        f"{{collector: {{image: 'curated/a@sha256:{'a' * 64}', contents: 4194305}}}}",
        "{collector: {}}",
        f"{{collector: {COLLECTOR}}}\nenforcement: {{mode: deny, kyverno: {{}}}}",
    ],
    ids=["tag", "not curated", "negative", "too much", "no image", "kyverno"],
)
def test_collector_is_a_curated_image_by_digest(tmp_path, response):
    """Kyverno would refuse it, because no verdict is about it."""
    kubernetes = "target: kubernetes\ncluster: main\nnamespace: apps\n"
    write(tmp_path, "wrong", f"{kubernetes}response: {response}")
    with pytest.raises(DeclarationInvalid):
        read_environment(tmp_path, "wrong")

    write(tmp_path, "right", f"{kubernetes}response: {{collector: {COLLECTOR}}}\nenforcement: {{mode: deny}}")
    right = read_environment(tmp_path, "right")
    assert isinstance(right, KubernetesEnvironment) and right.response.collector
    assert (right.response.collector.contents, right.response.collector.timeout) == (1048576, 60)
    assert b"curated/base/python" in right.signed_content
