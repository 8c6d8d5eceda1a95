"""The chain on real parts, inspected from outside."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cscm_laptop.laptop import LaptopState
from supply_chain.adapters.tools import Toolbox
from supply_chain.evidence.statement import BUNDLE
from supply_chain.model.tier import TierName
from tests.support.access import Outsider, Prefect, application_url
from tests.support.command import Chain, cscm
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VULNERABILITIES = "https://in-toto.io/attestation/vulns/v0.2"
SUMMARY = "https://slsa.dev/verification_summary/v1"
SIGNED = ("verify", "--annotations", "admitted-by=curation")


def test_chain_deploys_application_that_answers(chain: Chain) -> None:
    """One command leads from source to a running container."""
    ran = chain("hello")

    assert ran.status == 0, ran.stderr
    assert httpx.get(application_url(ran.result) + ran.result["probe"]["path"], timeout=10).status_code == 200


def test_chain_keeps_one_digest_from_build_to_deployment(chain: Chain, ecr: Any, engine: docker.DockerClient) -> None:
    """The digest in both repositories and in the container is the judged one."""
    deployment = chain("hello").result
    digest = deployment["digest"]

    for repository in ("dev/hello", "curated/hello"):
        described = ecr.describe_images(repositoryName=repository, imageIds=[{"imageDigest": digest}])
        assert described["imageDetails"][0]["imageDigest"] == digest
    container = engine.containers.get(deployment["container"])
    assert container.attrs["Image"] == digest
    assert container.status == "running"


def test_curated_repository_is_immutable_and_encrypted_with_tier_key(
    chain: Chain, ecr: Any, laptop: LaptopState
) -> None:
    """Tags cannot move, and the key is customer-managed."""
    digest = chain("hello").result["digest"]
    repository = ecr.describe_repositories(repositoryNames=["curated/hello"])["repositories"][0]
    tags = ecr.describe_images(repositoryName="curated/hello", imageIds=[{"imageDigest": digest}])["imageDetails"][0]

    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["encryptionConfiguration"]["encryptionType"] == "KMS"
    assert repository["encryptionConfiguration"]["kmsKey"] in (laptop.storage_key, "alias/cscm-storage")
    assert any(tag.endswith(digest.removeprefix("sha256:")[:12]) for tag in tags["imageTags"])


def test_plain_cosign_verifies_signature_and_attestations(
    chain: Chain, outsider: Outsider, keys: dict[TierName, Path]
) -> None:
    """A verifier needs only cosign and a public key; the key of another tier fails."""
    image = f"curated/hello@{chain('hello').result['digest']}"
    curation, development = keys[TierName.CURATION], keys[TierName.DEVELOPMENT]

    assert outsider.verify(*SIGNED, key=curation, image=image).returncode == 0
    assert outsider.verify(*SIGNED, key=development, image=image).returncode != 0
    for kind, key in (
        (PROVENANCE, development),
        (TEST_RESULT, development),
        (VULNERABILITIES, curation),
        (SUMMARY, curation),
    ):
        done = outsider.verify("verify-attestation", "--type", kind, key=key, image=image)
        assert done.returncode == 0, f"{kind}: {done.stderr}"
    assert outsider.verify("verify-attestation", "--type", PROVENANCE, key=curation, image=image).returncode != 0


@pytest.mark.parametrize("tier", TierName)
def test_key_command_prints_the_public_key_of_kms(keys: dict[TierName, Path], tier: TierName) -> None:
    """An external verifier needs no code of this project."""
    ran = cscm("key", tier)
    expected = load_pem_public_key(keys[tier].read_bytes())

    assert ran.status == 0, ran.stderr
    assert load_pem_public_key(ran.result.encode()) == expected


def test_registry_token_lets_docker_client_pull_but_not_push(
    chain: Chain, laptop: LaptopState, toolbox: Toolbox, tmp_path: Path
) -> None:
    """The token has the execution role, which reads curated images and cannot write them."""
    image = f"{laptop.registry}/curated/hello@{chain('hello').result['digest']}"
    token = cscm("registry-token", "execution").result.strip()

    def docker_client(*args: str, given: str = "", program: str = "docker") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}
        return subprocess.run(
            [program, *args], input=given, env=environment, capture_output=True, text=True, check=False
        )

    login = docker_client("login", "--username", "AWS", "--password-stdin", laptop.registry, given=token)
    assert login.returncode == 0, login.stderr
    assert docker_client("pull", image).returncode == 0
    mine, buildx = f"{laptop.registry}/curated/hello:mine", str(toolbox.find("buildx").path)
    pushed = docker_client("imagetools", "create", "--tag", mine, image, program=buildx)
    assert pushed.returncode != 0 and "403" in pushed.stderr, pushed.stderr


def test_container_runs_with_the_declared_profile(chain: Chain, engine: docker.DockerClient) -> None:
    """It has a read-only root, no capabilities, its own uid, no new privileges, and limits."""
    attrs = engine.containers.get(chain("hello").result["container"]).attrs
    host = attrs["HostConfig"]

    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"]
    assert any("no-new-privileges" in option for option in host["SecurityOpt"])
    assert attrs["Config"]["User"].split(":")[0] == "10001"
    assert 0 < host["Memory"] <= 512 * 1024**2 and 0 < host["PidsLimit"] <= 256
    assert not host["PortBindings"]


def test_configuration_comes_from_the_environment(chain: Chain) -> None:
    """The greeting is that of staging, not that of the image."""
    deployment = chain("hello").result
    answer = httpx.get(f"{application_url(deployment)}/", timeout=10).text

    assert "Hello from staging" in answer


def test_sbom_referrer_lists_debian_and_python_packages(chain: Chain, outsider: Outsider) -> None:
    """The SBOM of record is a referrer of the image."""
    digest = chain("hello").result["digest"]
    sbom = _referrer(outsider, "curated/hello", digest, "application/vnd.syft+json")
    kinds = {artifact["type"] for artifact in sbom["artifacts"]}

    assert {"deb", "python"} <= kinds
    assert {"starlette", "uvicorn"} <= {a["name"] for a in sbom["artifacts"] if a["type"] == "python"}


def _referrer(outsider: Outsider, repository: str, digest: str, artifact_type: str) -> Any:
    return json.loads(gzip.decompress(_referrers(outsider, repository, digest, artifact_type)[-1]))


def test_prefect_shows_chain_run_with_subflows_and_report(chain: Chain, prefect: Prefect) -> None:
    """The run's name has flow and application, its tiers are subflows, and the report has the result."""
    digest = chain("hello").result["digest"]
    runs = prefect.ask("flow_runs/filter", {"flow_runs": {"name": {"like_": "chain hello"}}, "sort": "START_TIME_DESC"})
    run = next(r for r in runs if r["state_type"] == "COMPLETED")
    names = {
        r["name"].split()[0]
        for r in prefect.ask("flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [run["id"]]}}})
    }
    pages = {
        a["key"]: a["data"]
        for a in prefect.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    }

    assert run["state_name"] == "Completed"
    assert names == {"build", "curate", "deploy"}
    page = pages["run-report-hello"]
    for text in (digest, "Admitted", "deploy", "Running", "starter database", "deploy", "build"):
        assert text in page, text


def test_every_step_emits_an_event_about_the_digest(chain: Chain, prefect: Prefect) -> None:
    """An operator can follow an image by its digest."""
    digest = chain("hello").result["digest"]
    wanted = {
        f"cscm.image.{e}"
        for e in ("built", "tested", "offered", "admitted", "stored", "encrypted", "scanned", "signed")
    }
    body = {"filter": {"any_resource": {"id": [f"cscm.image.{digest}"]}}, "limit": 50}

    def emitted() -> set[str]:
        return {event["event"] for event in prefect.ask("events/filter", body)["events"]}

    deployed = {"cscm.deployment.started", "cscm.deployment.confirmed"}
    eventually(lambda: wanted <= emitted() and emitted() & deployed, describe=emitted)


def test_second_chain_run_changes_nothing(chain: Chain) -> None:
    """The same revision gives the same digest, and a healthy container stays."""
    first = chain("hello").result
    again = cscm("chain", "examples/hello", "--json")

    assert again.status == 0, again.stderr
    assert again.result["digest"] == first["digest"]
    assert again.result["changed"] is False and again.result["container"] == first["container"]


def test_intake_gate_refuses_careless_example_with_all_reasons(
    chain: Chain, ecr: Any, engine: docker.DockerClient, prefect: Prefect
) -> None:
    """Every failed check is a reason; nothing is curated or started."""
    ran = chain("careless")
    codes = ran.reasons()

    assert ran.result["gate"] == "intake"
    assert codes >= {f"{check}.failed" for check in ("tests", "dockerfile", "source", "secrets", "probe")}
    assert any(code.startswith("dependencies.") for code in codes)
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_images(repositoryName="curated/careless")
    assert not engine.containers.list(all=True, filters={"label": "cscm.application=careless"})
    runs = prefect.ask(
        "flow_runs/filter", {"flow_runs": {"name": {"like_": "chain careless"}}, "sort": "START_TIME_DESC"}
    )
    assert (runs[0]["state_type"], runs[0]["state_name"]) == ("COMPLETED", "Refused")


def test_check_of_working_copy_names_the_reasons_of_the_intake_gate(chain: Chain) -> None:
    """Both read the same facts; only the reasons that need a built image come later."""
    refused = chain("careless").result["reasons"]

    checked = cscm("check", "examples/careless", "--json")

    assert checked.status == 3, checked.stderr
    judged = {rule["id"] for rule in checked.result["rules"] if rule["result"]}
    before = [(each["code"], each["fact"]) for each in checked.result["diagnostics"] if each["level"] == "error"]
    assert sorted(before) == sorted((each["code"], each["fact"]) for each in refused if each["code"] in judged)
    assert len(before) > 10


def test_refusal_is_a_signed_verdict_with_every_reason(chain: Chain, outsider: Outsider) -> None:
    """The verdict is evidence about the digest, with the result FAILED."""
    ran = chain("careless")
    digest = ran.result["image"]["digest"]

    bundles = _referrers(outsider, "evidence/curation/careless", digest, BUNDLE)
    statements = [json.loads(base64.b64decode(json.loads(b)["dsseEnvelope"]["payload"])) for b in bundles]
    verdicts = [s["predicate"] for s in statements if s["predicateType"] == SUMMARY]

    assert verdicts[-1]["verificationResult"] == "FAILED"
    assert {reason["code"] for reason in verdicts[-1]["cscm"]["reasons"]} == ran.reasons()


def _referrers(outsider: Outsider, repository: str, digest: str, artifact_type: str) -> list[bytes]:
    """Return the contents of an image's referrers of one type, as any reader gets them."""
    with outsider.registry(repository) as client:
        index = client.get(f"referrers/{digest}").json()["manifests"]
        digests = [each["digest"] for each in index if each.get("artifactType") == artifact_type]
        layers = [outsider.manifest(f"{repository}@{each}")["layers"][0]["digest"] for each in digests]
        return [client.get(f"blobs/{layer}").content for layer in layers]


def test_release_gate_refuses_outdated_example_and_signs_nothing(
    chain: Chain, outsider: Outsider, keys: dict[TierName, Path], engine: docker.DockerClient
) -> None:
    """It passes the intake gate; the image contains a known exploited vulnerability."""
    ran = chain("outdated")
    codes = ran.reasons()
    image = f"curated/outdated@{ran.result['image']['digest']}"

    assert ran.result["gate"] == "release"
    assert {"scan.known-exploited", "scan.critical"} <= codes
    assert outsider.verify(*SIGNED, key=keys[TierName.CURATION], image=image).returncode != 0
    assert not engine.containers.list(all=True, filters={"label": "cscm.application=outdated"})


def test_deploy_gate_refuses_image_that_curation_refused(chain: Chain) -> None:
    """An image that bypasses the release gate is refused by the next one."""
    digest = chain("outdated").result["image"]["digest"]
    ran = cscm("deploy", f"curated/outdated@{digest}", "--environment", "staging", "--json")

    assert {"signature.missing", "verdict.release.refused", "scan.known-exploited"} <= ran.reasons()


def test_deploy_gate_refuses_to_run_a_base(bases: None, ecr: Any) -> None:
    """Bases are curated and released, but never deployed."""
    digest = max(
        ecr.describe_images(repositoryName="curated/base/python", filter={"tagStatus": "TAGGED"}, maxResults=1000)[
            "imageDetails"
        ],
        key=lambda d: d["imagePushedAt"],
    )["imageDigest"]
    ran = cscm("deploy", f"curated/base/python@{digest}", "--environment", "staging", "--json")

    assert "placement.not-a-service" in ran.reasons()


def test_runtime_base_is_at_most_30_megabytes_compressed(bases: None, ecr: Any, outsider: Outsider) -> None:
    """A small base has few packages that can be vulnerable."""
    newest = max(
        ecr.describe_images(repositoryName="curated/base/python", filter={"tagStatus": "TAGGED"}, maxResults=1000)[
            "imageDetails"
        ],
        key=lambda d: d["imagePushedAt"],
    )
    manifest = outsider.manifest(f"curated/base/python@{newest['imageDigest']}")

    assert sum(layer["size"] for layer in manifest["layers"]) <= 30 * 1000**2
