"""Blocks against every call of the ECR API and the registry: no role can make a gate admit a blocked image."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.registry.client import INDEX, MANIFEST, Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.errors import SupplyChainError
from supply_chain.evidence.image_status import DIGESTS, Act, compute_image_status, read_image_status
from supply_chain.evidence.store import EvidenceStore
from supply_chain.lifecycle.blocked_images import archive_blocked_images
from supply_chain.lifecycle.decisions import DecisionPorts, decide
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.gate import evaluate
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.reading import read_deploy_facts, read_intake_facts, read_release_facts
from tests.integration.emulator.roles import Account, Role, pushed
from tests.support.builders import NOON
from tests.support.emulator import Emulator, artifact, put_blob, put_manifest, sha
from tests.support.facts import requirements
from tests.support.policies import DEPLOY, INTAKE, RELEASE
from tests.support.signer import EcdsaSigner

ROLES = ("development", "curation", "execution")
HOLDS_BLOCKS = ("evidence/lifecycle/shop", DIGESTS)
REPOSITORIES = ("dev/shop", "curated/shop", "dev/other", "curated/other", *HOLDS_BLOCKS)
SIGNERS = {tier: EcdsaSigner() for tier in TierName}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}]})
EXPIRE_ALL = json.dumps(
    {"rules": [{"rulePriority": 1, "action": {"type": "expire"},
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}}]}
)  # fmt: skip


def seen_by(account: Account, role: str) -> tuple[Ecr, EvidenceStore]:
    """Return ECR and evidence store with a role's own credentials; statements are signed with the test's keys."""
    ecr = Ecr(Role(account, role).client("ecr"), account.emulator.host)
    http = Registry(RegistryHttp(account.emulator.host, ecr.credentials, insecure=True))
    trusted = {tier: signer.public for tier, signer in SIGNERS.items()}
    tier = TierName(role)
    return ecr, EvidenceStore(tier, http, SIGNERS[tier], trusted, lambda: datetime.now(UTC))


@pytest.fixture(scope="module")
def blocked(account: Account) -> str:
    """The digest of an image that the lifecycle role blocked; copies in other repositories stay."""
    emulator: Emulator = account.emulator
    with emulator.http(emulator.login()) as http:
        for name in REPOSITORIES[:4]:
            emulator.repository(name)
            digest = pushed(http, name, "shop").headers["Docker-Content-Digest"]
    ecr, evidence = seen_by(account, "lifecycle")
    ports = DecisionPorts(evidence, ecr, RegistryReader(ecr, evidence.referrers, evidence))  # type: ignore[arg-type]
    ref = ImageRef(repository="curated/shop", digest=digest)
    decision = decide(ref, Act.BLOCK, ports, by="ann", reason="a key in it", now=datetime.now(UTC))
    assert decision.archived_or_restored == (digest,)
    assert admitted(account, digest, may_raise=False) == []
    assert sorted(each.repository for each in decision.other_names) == ["curated/other", "dev/other", "dev/shop"]
    return digest


def values_of(member: Any, name: str, repository: str, digests: Sequence[str]) -> Any:
    """Return the most harmful value for a member of a request, or any value of its type."""
    wished: dict[str, Any] = {
        "repositoryName": repository,
        "imageIds": [{"imageDigest": digest} for digest in digests],
        "imageId": {"imageDigest": digests[0]},
        "subjectId": {"imageDigest": digests[0]},
        "policyText": POLICY,
        "lifecyclePolicyText": EXPIRE_ALL,
        "targetStorageClass": "STANDARD",
        "imageTagMutability": "MUTABLE",
        "layerDigest": digests[0],
        "layerDigests": list(digests),
        "force": True,
    }
    if name in wished:
        return wished[name]
    match member.type_name:
        case "structure":
            return {
                key: values_of(each, key, repository, digests)
                for key, each in member.members.items()
                if key in member.required_members
            }
        case "list":
            return [values_of(member.member, name, repository, digests)]
        case "string":
            return (member.enum or ["x"])[0]
        case "integer" | "long":
            return 1
        case "boolean":
            return True
        case "blob":
            return b"x"
    return {}


def every_call(client: Any, repository: str, digests: Sequence[str]) -> Iterator[str]:
    """Make every call of the API about a repository; yield the names of the calls that were allowed."""
    for operation in client.meta.service_model.operation_names:
        shape = client.meta.service_model.operation_model(operation).input_shape
        members = shape.members if shape else {}
        wanted = [name for name in members if name in shape.required_members or name == "force"]
        asked = {name: values_of(members[name], name, repository, digests) for name in wanted}
        for storage in ("STANDARD", "ARCHIVE") if "targetStorageClass" in asked else ("",):
            with contextlib.suppress(ClientError, BotoCoreError):
                extra = {"targetStorageClass": storage} if storage else {}
                client._make_api_call(operation, asked | extra)
                yield operation


def every_request(acting: Role, repository: str, blocked: str, digests: Sequence[str]) -> Iterator[str]:
    """Push, overwrite, attach, index and delete; yield the requests that were allowed."""
    statements = digests[1:]
    tries: dict[str, Any] = {}
    for tag in ("shop", f"sha256-{blocked[7:]}", f"sha256-{blocked[7:]}.att"):
        tries[f"push as {tag}"] = lambda http, tag=tag: pushed(http, repository, tag)
    tries["push the image again"] = lambda http: pushed(http, repository, "shop")
    for digest in digests:
        tries[f"delete {digest}"] = lambda http, digest=digest: http.delete(f"/v2/{repository}/manifests/{digest}")
        tries[f"delete the blob {digest}"] = lambda http, digest=digest: http.delete(f"/v2/{repository}/blobs/{digest}")
        tries[f"another under {digest}"] = lambda http, digest=digest: put_manifest(
            http, repository, digest, artifact(blocked, 7)
        )
    body = artifact(blocked, 9, "application/vnd.dev.sigstore.bundle.v0.3+json")
    tries["attach"] = lambda http: (put_blob(http, repository, b"{}"), put_manifest(http, repository, sha(body), body))[
        1
    ]
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": MANIFEST, "digest": each, "size": 1}
            for each in (blocked, *statements)]}
    ).encode()  # fmt: skip
    tries["an index of it"] = lambda http: http.put(
        f"/v2/{repository}/manifests/index", content=index,
        headers={"Content-Type": INDEX},
    )  # fmt: skip
    for name, attempt in tries.items():
        # a new connection each time, because a refusal may close it before everything is sent
        with acting.http() as http, contextlib.suppress(httpx.HTTPStatusError):
            if attempt(http).is_success:
                yield name


def admitted(account: Account, digest: str, *, may_raise: bool = True) -> list[str]:
    """Return the gates that admit the image or do not report the block; a gate that raises admits nothing."""
    found = []
    for gate, role, name in (
        (Gate.INTAKE, "curation", "dev/shop"), (Gate.INTAKE, "curation", "dev/other"),
        (Gate.RELEASE, "curation", "curated/shop"), (Gate.RELEASE, "curation", "curated/other"),
        (Gate.DEPLOY, "execution", "curated/shop"), (Gate.DEPLOY, "execution", "curated/other"),
    ):  # fmt: skip
        ref, (_, store) = ImageRef(repository=name, digest=digest), seen_by(account, role)
        try:
            match gate:
                case Gate.INTAKE:
                    verdict: Any = evaluate(read_intake_facts(ref, store, (), None), INTAKE, NOON)
                case Gate.RELEASE:
                    facts = read_release_facts(ref, store, lambda _: ("sha256:" + "1" * 64,), (), None)
                    verdict = evaluate(facts, RELEASE, NOON)
                case _:
                    deploy = read_deploy_facts(ref, requirements(), store, bases=(), minimum_classification=None)
                    verdict = evaluate(deploy, DEPLOY, NOON)
        except SupplyChainError:
            if not may_raise:
                raise
            continue
        if isinstance(verdict, Admitted) or "image.blocked" not in {each.code for each in verdict.reasons}:
            found.append(f"{gate} for {name}")
    return found


@pytest.mark.parametrize("role", ROLES)
def test_no_gate_admits_a_blocked_image_after_any_call_of_a_role(account: Account, blocked: str, role: str) -> None:
    """The role can neither delete, archive nor overwrite the statement of the block."""
    acting = Role(account, role)
    root = account.emulator.client("ecr")
    statements = {
        name: [each["imageDigest"] for each in root.describe_images(repositoryName=name)["imageDetails"]]
        for name in HOLDS_BLOCKS
    }
    assert all(statements.values())
    done: dict[str, set[str]] = {}

    for name in REPOSITORIES:
        digests = [blocked, *statements.get(name, ())]
        calls = set(every_call(acting.client("ecr"), name, digests))
        done[name] = {*calls, *every_request(acting, name, blocked, digests)}

    assert admitted(account, blocked) == []
    for name in HOLDS_BLOCKS:
        left = [each["imageDigest"] for each in root.describe_images(repositoryName=name)["imageDetails"]]
        assert left == statements[name], "what blocks is neither gone, nor archived, nor pushed over"
        writes = {each for each in done[name] if not each.startswith(("Batch", "Describe", "Get", "List"))}
        assert writes == set()
    assert not any("UpdateImageStorageClass" in calls for calls in done.values()), "the lifecycle's role alone may"
    assert "DescribeImages" in done["curated/shop" if role != "development" else "dev/shop"], "it does try"


def test_lifecycle_archives_a_blocked_image_that_is_pushed_again(account: Account, blocked: str) -> None:
    """A push restores an archived image, and no policy can forbid that without forbidding pushes."""
    curation, (ecr, evidence) = Role(account, "curation"), seen_by(account, "lifecycle")
    with curation.http() as http, Role(account, "development").http() as builder:
        pushed(http, "curated/shop", "shop")
        pushed(builder, "dev/other", "shop")
        listed = {"mediaType": MANIFEST, "digest": blocked, "size": 1}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}
        builder.put(
            "/v2/dev/other/manifests/index", content=json.dumps(index), headers={"Content-Type": INDEX}
        ).raise_for_status()
        assert http.get(f"/v2/curated/shop/manifests/{blocked}").status_code == 200

        found = archive_blocked_images(ecr, evidence, RegistryReader(ecr, evidence.referrers, evidence))  # type: ignore[arg-type]

        names = {each.repository for each in found.archived}
        assert names >= {"curated/shop", "dev/other"} and not found.failed
        for name in ("curated/shop", "dev/other"):
            assert http.get(f"/v2/{name}/manifests/{blocked}").status_code == 404


def test_gate_raises_if_it_may_not_read_blocks(account: Account, blocked: str) -> None:
    """Missing permissions must not read as "not blocked"."""
    emulator = account.emulator
    reads = {"Effect": "Allow", "Action": "ecr:*", "Resource": "arn:aws:ecr:*:*:repository/curated/*"}
    token = {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"}
    ecr = Ecr(emulator.client("ecr", **emulator.role("blind", reads, token)), emulator.host)
    http = Registry(RegistryHttp(emulator.host, ecr.credentials, insecure=True))
    trusted = {tier: signer.public for tier, signer in SIGNERS.items()}
    store = EvidenceStore(TierName.EXECUTION, http, SIGNERS[TierName.EXECUTION], trusted, lambda: datetime.now(UTC))

    with pytest.raises(SupplyChainError) as raised:
        compute_image_status(read_image_status(ImageRef(repository="curated/shop", digest=blocked), store).evidence)

    assert raised.value.code == "access.denied"
