"""The account that `cscm up` creates, and its roles with a method for each action."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from supply_chain.adapters.aws.accounts import DEAD, POLICIES, RULE, Accounts, Administrator, ensure_accounts
from tests.support.command import ROOT
from tests.support.emulator import REGION, Emulator, artifact, put_blob, put_manifest, sha

ROLES = ("development", "curation", "execution", "bridge", "lifecycle")
REPOSITORIES = ("dev/hello", "curated/hello", "curated/base/python", "evidence/curation/hello",
                "evidence/execution/hello", "evidence/lifecycle/hello", "verdicts/intake/hello",
                "verdicts/release/hello", "verdicts/deploy/staging/hello", "other/hello")  # fmt: skip
DENIED = {"AccessDenied", "AccessDeniedException", "AWS.SimpleQueueService.AccessDenied", "UnauthorizedOperation"}


@dataclass
class Account:
    """An account as `cscm up` creates it, with images in each repository."""

    emulator: Emulator
    accounts: Accounts
    images: dict[str, str] = field(default_factory=dict)
    old: dict[tuple[str, str], str] = field(default_factory=dict)
    """An image for a role to delete, by repository and role."""
    wrapped: bytes = b""

    def credentials(self, role: str) -> dict[str, str]:
        """Return temporary credentials of the role, assumed by its own user."""
        who = self.accounts.bridge if role == "bridge" else self.accounts.identities[role]  # type: ignore[index]
        sts = self.emulator.client("sts", who.access_key_id, who.secret_access_key)
        made = sts.assume_role(RoleArn=who.role_arn, RoleSessionName="matrix")["Credentials"]
        return {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"], "token": made["SessionToken"]}

    def fill(self) -> None:
        """Push an image to every repository, as root."""
        with self.emulator.http(self.emulator.login()) as http:
            for name in REPOSITORIES:
                self.emulator.repository(name)
                self.images[name] = pushed(http, name, "first").headers["Docker-Content-Digest"]
                for role in ROLES:
                    self.old[name, role] = pushed(http, name, f"old-{role}").headers["Docker-Content-Digest"]
        kms = self.emulator.client("kms")
        self.wrapped = kms.encrypt(KeyId="alias/cscm-content", Plaintext=b"key")["CiphertextBlob"]

    def url(self, queue: str) -> str:
        return self.accounts.bridge.dead if queue == DEAD else self.accounts.bridge.queue


def pushed(http: httpx.Client, name: str, content: str) -> httpx.Response:
    """Push an image of one layer and return the registry's response."""
    config, layer = put_blob(http, name, b"{}"), put_blob(http, name, content.encode())
    blobs = [{"mediaType": "application/octet-stream", "digest": d, "size": n} for d, n in ((layer, len(content)),)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": blobs,
    }
    return put_manifest(http, name, content, json.dumps(manifest).encode()).raise_for_status()


@dataclass
class Role:
    """A role, with a method for each action."""

    account: Account
    name: str

    @cached_property
    def credentials(self) -> dict[str, str]:
        return self.account.credentials(self.name)

    def client(self, service: str) -> Any:
        return self.account.emulator.client(service, **self.credentials)

    def http(self) -> httpx.Client:
        return self.account.emulator.http(self.account.emulator.login(**self.credentials))

    def act(self, action: str) -> None:
        """Do the action; raise `ClientError` or `HTTPStatusError` if it is denied."""
        first, _, rest = action.partition(" ")
        exact: dict[str, Callable[[], Any]] = {
            "get a token for the registry": lambda: self.account.emulator.login(**self.credentials),
            "list the repositories": lambda: self.client("ecr").describe_repositories(),
            "put a rule": lambda: self.client("events").put_rule(Name=RULE, EventPattern='{"source": ["x"]}'),
            "put an event": lambda: self.client("events").put_events(
                Entries=[{"Source": "own", "DetailType": "x", "Detail": "{}"}]
            ),
            "make a user": lambda: self.client("iam").create_user(UserName=f"of-{self.name}"),
            "take the role of curation": lambda: self.client("sts").assume_role(
                RoleArn=self.account.accounts.identities["curation"].role_arn,  # type: ignore[index]
                RoleSessionName="other",
            ),
        }
        exact.get(action, lambda: getattr(self, f"_{first}")(rest))()

    def _pull(self, name: str) -> None:
        with self.http() as http:
            digest = self.account.images[name]
            manifest = http.get(f"/v2/{name}/manifests/{digest}").raise_for_status().json()
            http.get(f"/v2/{name}/blobs/{manifest['layers'][0]['digest']}").raise_for_status()

    def _referrers(self, name: str) -> None:
        with self.http() as http:
            http.get(f"/v2/{name}/referrers/{self.account.images[name]}").raise_for_status()

    def _push(self, name: str) -> None:
        with self.http() as http:
            pushed(http, name, f"of-{self.name}")

    def _attach(self, name: str) -> None:
        with self.http() as http:
            put_blob(http, name, b"{}")
            body = artifact(self.account.images[name], hash(self.name) % 1000)
            put_manifest(http, name, sha(body), body).raise_for_status()

    def _describe(self, name: str) -> None:
        self.client("ecr").describe_images(repositoryName=name)

    def _create(self, name: str) -> None:
        self.client("ecr").create_repository(repositoryName=f"{name}-{self.name}")

    def _delete(self, name: str) -> None:
        ids = [{"imageDigest": self.account.old[name, self.name]}]
        self.client("ecr").batch_delete_image(repositoryName=name, imageIds=ids)

    def _archive(self, name: str) -> None:
        old = {"imageDigest": self.account.old[name, self.name]}
        archived = {"repositoryName": name, "imageId": old, "targetStorageClass": "ARCHIVE"}
        self.client("ecr").update_image_storage_class(**archived)

    def _restore(self, name: str) -> None:
        """Restore the image that `_archive` archived, which is earlier in the table."""
        old = {"imageDigest": self.account.old[name, self.name]}
        restored = {"repositoryName": name, "imageId": old, "targetStorageClass": "STANDARD"}
        self.client("ecr").update_image_storage_class(**restored)

    def _remove(self, name: str) -> None:
        self.client("ecr").delete_repository(repositoryName=name, force=True)

    def _expire(self, name: str) -> None:
        rule = {"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan",
                "countNumber": 1}, "action": {"type": "expire"}}  # fmt: skip
        self.client("ecr").put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps({"rules": [rule]}))

    def _grant(self, name: str) -> None:
        anybody = {"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}
        text = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
        self.client("ecr").set_repository_policy(repositoryName=name, policyText=text)

    def _move(self, what: str) -> None:
        name = what.rpartition(" ")[2]
        self.client("ecr").put_image_tag_mutability(repositoryName=name, imageTagMutability="MUTABLE")

    def _sign(self, key: str) -> None:
        self.client("kms").sign(KeyId=key, Message=b"said", MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256")

    def _encrypt(self, key: str) -> None:
        self.client("kms").encrypt(KeyId=key, Plaintext=b"key")

    def _decrypt(self, key: str) -> None:
        self.client("kms").decrypt(KeyId=key, CiphertextBlob=self.account.wrapped)

    def _receive(self, queue: str) -> None:
        sqs, url = self.client("sqs"), self.account.url(queue)
        for message in sqs.receive_message(QueueUrl=url).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def _send(self, queue: str) -> None:
        self.client("sqs").send_message(QueueUrl=self.account.url(queue), MessageBody="{}")

    def _show(self, queue: str) -> None:
        with contextlib.suppress(self.client("sqs").exceptions.ReceiptHandleIsInvalid):
            self.client("sqs").change_message_visibility(
                QueueUrl=self.account.url(queue), ReceiptHandle="nothing", VisibilityTimeout=0
            )

    def _count(self, queue: str) -> None:
        names = ["ApproximateNumberOfMessages"]
        self.client("sqs").get_queue_attributes(QueueUrl=self.account.url(queue), AttributeNames=names)

    def _purge(self, queue: str) -> None:
        self.client("sqs").purge_queue(QueueUrl=self.account.url(queue))

    def may(self, action: str) -> bool:
        """Tell whether the action is allowed; any other error fails the test."""
        try:
            self.act(action)
        except ClientError as error:
            if error.response["Error"]["Code"] in DENIED:
                return False
            raise
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 403:
                return False
            raise
        return True


@pytest.fixture(scope="module")
def account(python: Path, crane: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    directory = tmp_path_factory.mktemp("matrix")
    emulator = Emulator(python, crane, directory)
    emulator.start()
    with contextlib.ExitStack() as stack:
        stack.callback(emulator.end)
        key = emulator.root
        root = boto3.Session(key["key"], key["secret"], region_name=REGION)
        admin = Administrator.of(root, f"http://{emulator.host}")
        made = Account(emulator, ensure_accounts(admin, ROOT / POLICIES, directory / "keys.json"))
        assert ensure_accounts(admin, ROOT / POLICIES, directory / "keys.json") == made.accounts, "made once"
        unrecorded = emulator.client("ecr").list_pull_time_update_exclusions()["pullTimeUpdateExclusions"]
        assert [arn.rpartition("-")[2] for arn in unrecorded] == ["curation", "lifecycle"], "they only judge"
        made.fill()
        yield made
