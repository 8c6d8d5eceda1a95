"""The registry alone (control 3): what a node can pull, whatever a pod names and the other controls admit.

A node pulls with the credentials that the kubelet's credential provider gets: on a laptop those of the execution tier,
on EKS those of the role that `docs/how-to/eks.md` describes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from supply_chain.model.image import ImageRef
from tests.integration.emulator.roles import Account, Role
from tests.support import attacks
from tests.support.admission import wait_until
from tests.support.emulator import LOGIN, PULL, REGION, Emulator, allow, at
from tests.support.verified import Verdicts

UNKNOWN, DENIED = "MANIFEST_UNKNOWN", "DENIED"
WITHHELD: dict[attacks.Prepare, str] = {attacks.wrong_digest: UNKNOWN, attacks.outside_of_curated: DENIED}
"""The attacks that the registry alone prevents, and its error."""
PULLED: tuple[attacks.Prepare, ...] = (
    attacks.unsigned, attacks.refused, attacks.superseded, attacks.of_another_digest, attacks.by_tag,
    attacks.by_tag_and_digest, attacks.other_application, attacks.unknown_application, attacks.other_environment,
    attacks.other_gate, attacks.other_statement, attacks.expired,
)  # fmt: skip
"""Those that it does not: who may push to `curated/*`, curation alone, decides, until the image is archived."""


@dataclass
class Node:
    """A node that pulls images with its credentials."""

    emulator: Emulator
    password: str
    role: dict[str, str]

    def refusal(self, image: str) -> str:
        """Return why the node cannot pull an image; empty if it can."""
        done = self.emulator.run_crane(self.password, "pull", image, str(self.emulator.directory / "pulled.tar"))
        return done.stderr if done.returncode else ""


def ask_provider(account: Account, image: str, directory: Path) -> str:
    """Return the password in the answer of the laptop's credential provider to a kubelet."""
    host = account.emulator.host
    identities = {name: each.model_dump() for name, each in account.accounts.identities.items()}
    state = {"registry": host, "region": REGION, "endpoint_url": f"http://{host}", "identities": identities}
    (directory / "state.json").write_text(json.dumps(state))
    request = {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderRequest",
        "image": image,
    }
    done = subprocess.run(
        [sys.executable, "-m", "cscm_laptop.cluster.ecr_credentials", directory / "state.json"],
        input=json.dumps(request), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return str(json.loads(done.stdout)["auth"][host]["password"])


@pytest.fixture(scope="module")
def verdicts(account: Account) -> Verdicts:
    return Verdicts(account.emulator)


@pytest.fixture(scope="module")
def nodes(account: Account, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Node]:
    emulator = account.emulator
    role = emulator.role("node", LOGIN, allow(at("curated/*"), *PULL[:2]))
    password = ask_provider(account, f"{emulator.host}/curated/hello", tmp_path_factory.mktemp("provider"))
    return {
        "laptop": Node(emulator, password, account.credentials("execution")),
        "eks": Node(emulator, emulator.login(**role), role),
    }


@pytest.mark.parametrize("attack", WITHHELD, ids=lambda each: each.__name__)
def test_registry_without_admission_control_withholds_image(
    nodes: dict[str, Node], verdicts: Verdicts, attack: attacks.Prepare
) -> None:
    """An image that was released can be pulled, so the reason is not another one."""
    image, released = attack(verdicts), verdicts.image(verdicts.push("hello"))

    for name, node in nodes.items():
        assert WITHHELD[attack] in node.refusal(image), name
        assert node.refusal(released) == "", name


@pytest.mark.parametrize("attack", PULLED, ids=lambda each: each.__name__)
def test_registry_without_admission_control_serves_curated_image(
    nodes: dict[str, Node], account: Account, verdicts: Verdicts, attack: attacks.Prepare
) -> None:
    """It reads no verdict. Blocking the image helps: the lifecycle archives it."""
    image = attack(verdicts)
    assert {name: node.refusal(image) for name, node in nodes.items()} == dict.fromkeys(nodes, "")

    store(account, image, "ARCHIVE")

    for name, node in nodes.items():
        assert UNKNOWN in node.refusal(image), name


def store(account: Account, image: str, storage: str, role: str = "lifecycle") -> None:
    """Move an image into the archive or out of it."""
    name, at_digest, digest = image.removeprefix(f"{account.emulator.host}/").partition("@")
    repository, _, tag = name.partition(":")
    wanted = {"imageDigest": digest} if at_digest else {"imageTag": tag}
    ecr = Role(account, role).client("ecr")
    (found,) = ecr.describe_images(repositoryName=repository, imageIds=[wanted])["imageDetails"]
    ecr.update_image_storage_class(
        repositoryName=repository, imageId={"imageDigest": found["imageDigest"]}, targetStorageClass=storage
    )


@pytest.mark.parametrize("name", ["laptop", "eks"])
def test_node_cannot_pull_blocked_image_by_tag_or_copy(
    name: str, nodes: dict[str, Node], account: Account, verdicts: Verdicts
) -> None:
    """Neither may a node restore it or push it again; an image that is not blocked any more can be pulled."""
    node = nodes[name]
    ref = verdicts.push("hello")
    image = verdicts.image(ref)
    assert node.refusal(image) == ""
    offered = ImageRef(repository="dev/hello", digest=ref.digest)
    attacks.copy_image(verdicts, ref, offered)
    store(account, image, "ARCHIVE")

    for each in (image, image.replace("@", ":any@"), image.replace("hello", "shop"), verdicts.image(offered)):
        assert node.refusal(each)
    ecr = account.emulator.client("ecr", **node.role)
    with pytest.raises(ClientError, match="AccessDenied"):
        ecr.update_image_storage_class(
            repositoryName=ref.repository, imageId={"imageDigest": ref.digest}, targetStorageClass="STANDARD"
        )
    assert account.emulator.push(node.password, f"{ref.repository}:again").returncode

    store(account, image, "STANDARD")
    wait_until(lambda: node.refusal(image) == "", 60)
