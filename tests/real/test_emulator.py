"""The emulator on its own environment, driven by boto3, crane and plain HTTP, and killed a lot."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
ACCOUNT = "000000000000"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"


def has_ministack(python: Path) -> bool:
    return (
        python.exists() and subprocess.run([python, "-c", "import ministack, hypercorn"], check=False).returncode == 0
    )


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the emulator's environment: the installed one, or one made from the lock."""
    installed = ROOT / ".cscm" / "emulator" / "bin" / "python"
    if has_ministack(installed):
        return installed
    directory = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    lock = ROOT / "deployments" / "emulator.lock"
    subprocess.run([directory / "bin" / "pip", "install", "-q", "--require-hashes", "-r", lock], check=True)
    return directory / "bin" / "python"


@pytest.fixture(scope="session")
def crane() -> str:
    built = ROOT / ".cscm" / "tools" / "crane"
    found = str(built) if built.exists() else shutil.which("crane")
    assert found, "crane is needed: run `make tools`, or put it on PATH"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Emulator:
    """One emulator over a directory, which can be killed and started again."""

    python: Path
    crane: str
    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def start(self) -> None:
        command = [self.python, "-m", "supply_chain.laptop.emulator", "--port", str(self.port), "--state", self.state]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={"PYTHONPATH": str(ROOT / "src")}, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(300):
            assert self.process.poll() is None, (self.directory / "log").read_text()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://{self.host}/_cscm/health", trust_env=False).status_code == 200:
                    return
            time.sleep(0.05)
        pytest.fail("the emulator did not become ready")

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)
        self.process.wait(20)

    def kill_and_restart(self) -> None:
        self.end()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{self.host}/_cscm/health", trust_env=False)
        self.start()

    def client(self, service: str, key: str = "test", secret: str = "test", token: str | None = None) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=f"http://{self.host}",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )

    def repository(self, name: str, **settings: Any) -> str:
        return str(self.client("ecr").create_repository(repositoryName=name, **settings)["repository"]["repositoryArn"])

    def role(self, name: str, *statements: dict[str, Any]) -> dict[str, str]:
        """The temporary credentials of a new role, as boto3 wants them."""
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
        iam = self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(*statements))
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        made = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"], "token": made["SessionToken"]}

    def login(self, **credentials: str) -> str:
        """The registry's password for these credentials; root's for none."""
        data = self.client("ecr", **credentials).get_authorization_token()["authorizationData"][0]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        assert user == "AWS"
        return password

    def http(self, password: str | None = None) -> httpx.Client:
        auth = ("AWS", password) if password else None
        return httpx.Client(base_url=f"http://{self.host}", auth=auth, trust_env=False, timeout=30)

    def run_crane(self, password: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
        place = self.directory / f"docker-{hashlib.sha256((password or '').encode()).hexdigest()[:8]}"
        place.mkdir(exist_ok=True)
        auth = base64.b64encode(f"AWS:{password}".encode()).decode()
        auths = {self.host: {"auth": auth}} if password else {}
        configuration = place / "config.json"
        if not configuration.exists():
            configuration.write_text(json.dumps({"auths": auths}))
        environment = {"DOCKER_CONFIG": str(place), "PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
        return subprocess.run(
            [self.crane, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    def push(self, password: str | None, name: str, size: int = 2000) -> subprocess.CompletedProcess[str]:
        """Push an image with one layer of random bytes to `repository:tag`; its reference goes to stdout."""
        layer = self.directory / f"layer-{hashlib.sha256(os.urandom(8)).hexdigest()[:16]}.tar"
        with tarfile.open(layer, "w") as tar:
            info = tarfile.TarInfo("content")
            info.size = size
            tar.addfile(info, io.BytesIO(os.urandom(size)))
        done = self.run_crane(password, "append", "--oci-empty-base", "-f", str(layer), "-t", f"{self.host}/{name}")
        layer.unlink()
        return done


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(resource: str, *actions: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


LOGIN = allow("*", "ecr:GetAuthorizationToken")
PULL = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")
PUSH = ("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage")


def at(repository: str) -> str:
    return f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}"


@pytest.fixture
def emulator(python: Path, crane: str, tmp_path: Path) -> Iterator[Emulator]:
    started = Emulator(python, crane, tmp_path)
    started.start()
    yield started
    if started.process and started.process.poll() is None:
        started.end()


def put_blob(http: httpx.Client, name: str, data: bytes) -> str:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    http.post(f"/v2/{name}/blobs/uploads/", params={"digest": digest}, content=data).raise_for_status()
    return digest


def artifact(subject: str, number: int, kind: str = "application/vnd.example") -> bytes:
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha(EMPTY), "size": len(EMPTY)}
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": empty,
            "layers": [empty],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
            "annotations": {"number": str(number)},
        }
    ).encode()


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def put_manifest(http: httpx.Client, name: str, reference: str, body: bytes) -> httpx.Response:
    return http.put(f"/v2/{name}/manifests/{reference}", content=body, headers={"Content-Type": MANIFEST})


# --- durable --------------------------------------------------------------------------------------


def make_key(e: Emulator) -> Callable[[], None]:
    kms = e.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/signer", TargetKeyId=key)
    how = {"KeyId": "alias/signer", "Message": b"m", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = kms.sign(**how)["Signature"]

    def there() -> None:
        assert e.client("kms").verify(**how, Signature=signature)["SignatureValid"]

    return there


def make_alias(e: Emulator) -> Callable[[], None]:
    kms = e.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/last", TargetKeyId=key)

    def there() -> None:
        assert e.client("kms").describe_key(KeyId="alias/last")["KeyMetadata"]["KeyId"] == key

    return there


def turn_rotation_on(e: Emulator) -> Callable[[], None]:
    kms = e.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    kms.enable_key_rotation(KeyId=key)

    def there() -> None:
        assert e.client("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
        assert e.client("kms").decrypt(CiphertextBlob=sealed)["Plaintext"] == b"secret"

    return there


def make_user(e: Emulator) -> Callable[[], None]:
    iam = e.client("iam")
    iam.create_user(UserName="dev")
    iam.put_user_policy(UserName="dev", PolicyName="p", PolicyDocument=document(allow("*", "kms:ListKeys")))
    key = iam.create_access_key(UserName="dev")["AccessKey"]

    def there() -> None:
        kms = e.client("kms", key["AccessKeyId"], key["SecretAccessKey"])
        assert kms.list_keys()["Keys"] == []
        with pytest.raises(ClientError, match="AccessDenied"):
            kms.create_key()

    return there


def make_managed_policy(e: Emulator) -> Callable[[], None]:
    arn = e.client("iam").create_policy(PolicyName="managed", PolicyDocument=document(LOGIN))["Policy"]["Arn"]

    def there() -> None:
        assert e.client("iam").get_policy(PolicyArn=arn)["Policy"]["PolicyName"] == "managed"

    return there


def assume_role(e: Emulator) -> Callable[[], None]:
    session = e.role("reader", allow("*", "ecr:DescribeRepositories"))

    def there() -> None:
        identity = e.client("sts", **session).get_caller_identity()
        assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/test"
        assert e.client("ecr", **session).describe_repositories()["repositories"] == []

    return there


def make_repository(e: Emulator) -> Callable[[], None]:
    e.repository("curated/app", imageTagMutability="IMMUTABLE")

    def there() -> None:
        [repository] = e.client("ecr").describe_repositories()["repositories"]
        assert (repository["repositoryName"], repository["imageTagMutability"]) == ("curated/app", "IMMUTABLE")

    return there


def set_repository_policy(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    e.client("ecr").set_repository_policy(repositoryName="dev/app", policyText=document())

    def there() -> None:
        assert e.client("ecr").get_repository_policy(repositoryName="dev/app")["policyText"] == document()

    return there


def push_image(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    password = e.login()
    pushed = e.push(password, "dev/app:one")
    assert pushed.returncode == 0, pushed.stderr

    def there() -> None:
        for reference in (pushed.stdout.strip(), f"{e.host}/dev/app:one"):
            valid = e.run_crane(password, "validate", "--remote", reference)
            assert valid.returncode == 0, valid.stderr

    return there


def upload_blob(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    password = e.login()
    with e.http(password) as http:
        digest = put_blob(http, "dev/app", b"a layer")

    def there() -> None:
        with e.http(password) as http:
            assert http.get(f"/v2/dev/app/blobs/{digest}").content == b"a layer"

    return there


def put_image_by_api(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    text = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST})
    image = e.client("ecr").put_image(repositoryName="dev/app", imageManifest=text, imageTag="t")["image"]
    digest = image["imageId"]["imageDigest"]

    def there() -> None:
        with e.http(e.login()) as http:
            assert http.get(f"/v2/dev/app/manifests/{digest}").text == text

    return there


def delete_image(e: Emulator) -> Callable[[], None]:
    e.repository("dev/app")
    password = e.login()
    reference = e.push(password, "dev/app:one").stdout.strip()
    digest = reference.partition("@")[2]
    e.client("ecr").batch_delete_image(repositoryName="dev/app", imageIds=[{"imageDigest": digest}])

    def there() -> None:
        assert e.client("ecr").list_images(repositoryName="dev/app")["imageIds"] == []
        with e.http(password) as http:
            assert http.get(f"/v2/dev/app/manifests/{digest}").status_code == 404

    return there


def send_message(e: Emulator) -> Callable[[], None]:
    url = e.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    e.client("sqs").send_message(QueueUrl=url, MessageBody="hello")

    def there() -> None:
        [message] = e.client("sqs").receive_message(QueueUrl=url)["Messages"]
        assert message["Body"] == "hello"

    return there


def put_event(e: Emulator) -> Callable[[], None]:
    sqs, events = e.client("sqs"), e.client("events")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="r", EventPattern=json.dumps({"source": ["test"]}))
    events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": arn}])
    events.put_events(Entries=[{"Source": "test", "DetailType": "d", "Detail": "{}"}])

    def there() -> None:
        assert e.client("events").describe_rule(Name="r")["Name"] == "r"
        [message] = e.client("sqs").receive_message(QueueUrl=url)["Messages"]
        assert json.loads(message["Body"])["source"] == "test"

    return there


@pytest.mark.parametrize(
    "write",
    [
        make_key,
        make_alias,
        turn_rotation_on,
        make_user,
        make_managed_policy,
        assume_role,
        make_repository,
        set_repository_policy,
        push_image,
        upload_blob,
        put_image_by_api,
        delete_image,
        send_message,
        put_event,
    ],
)
def test_what_was_answered_survives_kill_9(emulator: Emulator, write: Callable[[Emulator], Callable[[], None]]) -> None:
    """Whatever the emulator said was done is still so after `kill -9` right after the answer."""
    there = write(emulator)

    emulator.kill_and_restart()

    there()


def test_every_acknowledged_push_of_a_burst_survives_kill_9(emulator: Emulator) -> None:
    """Killed in the middle of many pushes, the emulator has each acknowledged one whole, and nothing by halves."""
    emulator.repository("dev/app")
    password = emulator.login()
    acknowledged: list[str] = []

    def push_many(worker: int) -> None:
        for number in range(100):
            pushed = emulator.push(password, f"dev/app:w{worker}-{number}", size=300_000)
            if pushed.returncode != 0:
                return
            acknowledged.append(pushed.stdout.strip())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(push_many, worker) for worker in range(4)]
        while len(acknowledged) < 12:
            assert not any(w.done() for w in workers), "the pushes ended before the kill"
            time.sleep(0.01)
        emulator.end()
    emulator.start()

    with emulator.http(password) as http:
        tags = http.get("/v2/dev/app/tags/list").json()["tags"]
    listed = [f"{emulator.host}/dev/app:{tag}" for tag in tags]
    for reference in [*acknowledged, *listed]:
        valid = emulator.run_crane(password, "validate", "--remote", reference)
        assert valid.returncode == 0, f"{reference}: {valid.stderr}"
    assert len(listed) >= len(acknowledged)


def test_an_unfinished_upload_is_never_half_seen(emulator: Emulator) -> None:
    """An upload that was cut off is gone after a restart, with what it left on disk."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        place = http.post("/v2/dev/app/blobs/uploads/").headers["Location"]
        http.patch(place, content=b"half").raise_for_status()
        assert list((emulator.state / "uploads").iterdir())

        emulator.kill_and_restart()

    with emulator.http(emulator.login()) as http:
        assert http.put(place, params={"digest": sha(b"half")}).status_code == 404
        assert http.head(f"/v2/dev/app/blobs/{sha(b'half')}").status_code == 404
    assert not list((emulator.state / "uploads").iterdir())


def test_blobs_are_never_written_again(emulator: Emulator) -> None:
    """Later writes, and the same blob pushed again, leave a blob's file as it is; the state holds no content."""
    for name in ("dev/app", "dev/other"):
        emulator.repository(name)
    with emulator.http(emulator.login()) as http:
        layer = os.urandom(200_000)
        digest = put_blob(http, "dev/app", layer)
        file = emulator.state / "blobs" / "sha256" / digest.removeprefix("sha256:")
        before = file.stat().st_ino, file.stat().st_mtime_ns

        put_blob(http, "dev/app", b"another")
        put_blob(http, "dev/app", layer)
        mounted = http.post("/v2/dev/other/blobs/uploads/", params={"mount": digest, "from": "dev/app"})
        emulator.kill_and_restart()

    assert mounted.status_code == 201
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before
    assert (emulator.state / "ecr.json").stat().st_size < 20_000


def test_damaged_state_is_not_started_on(emulator: Emulator) -> None:
    """State that cannot be read stops the start and stays as it is, so that it can be repaired."""
    make_repository(emulator)
    emulator.end()
    damaged = emulator.state / "ecr.json"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    content = damaged.read_bytes()

    command = [emulator.python, "-m", "supply_chain.laptop.emulator", "--port", str(emulator.port)]
    ended = subprocess.run(
        [*command, "--state", emulator.state], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=False
    )

    assert ended.returncode == 1
    assert b"cannot be read" in ended.stderr
    assert damaged.read_bytes() == content


def test_a_second_emulator_on_the_same_state_is_refused(emulator: Emulator) -> None:
    """Two that write the same files would undo each other."""
    command = [emulator.python, "-m", "supply_chain.laptop.emulator", "--port", str(free_port())]
    ended = subprocess.run(
        [*command, "--state", emulator.state], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=False
    )

    assert ended.returncode == 1
    assert b"Another emulator" in ended.stderr


def test_it_stops_when_asked(emulator: Emulator) -> None:
    """SIGTERM ends it with status 0."""
    emulator.end(signal.SIGTERM)

    assert emulator.process
    assert emulator.process.returncode == 0


# --- referrers ------------------------------------------------------------------------------------


def test_concurrent_attachments_in_an_immutable_repository_are_all_listed(emulator: Emulator) -> None:
    """Attestations attached at once are all there, no tag is made, and all of them survive `kill -9`."""
    emulator.repository("curated/app", imageTagMutability="IMMUTABLE")
    password = emulator.login()
    subject = emulator.push(password, "curated/app:one").stdout.strip().partition("@")[2]
    bodies = [artifact(subject, number) for number in range(20)]
    with emulator.http(password) as http, concurrent.futures.ThreadPoolExecutor(8) as pool:
        put_blob(http, "curated/app", EMPTY)
        answers = list(pool.map(lambda body: put_manifest(http, "curated/app", sha(body), body), bodies))
    assert {(a.status_code, a.headers.get("OCI-Subject")) for a in answers} == {(201, subject)}

    emulator.kill_and_restart()

    with emulator.http(password) as http:
        listed = http.get(f"/v2/curated/app/referrers/{subject}")
        tags = http.get("/v2/curated/app/tags/list").json()["tags"]
    assert listed.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    assert {d["digest"] for d in listed.json()["manifests"]} == {sha(body) for body in bodies}
    assert tags == ["one"]


def test_referrers_are_described_and_filtered(emulator: Emulator) -> None:
    """A referrer's type and annotations are in its descriptor; a filter is applied and said to be."""
    emulator.repository("dev/app")
    subject = sha(b"not pushed yet")
    with emulator.http(emulator.login()) as http:
        put_blob(http, "dev/app", EMPTY)
        sbom, other = artifact(subject, 1, "application/sbom"), artifact(subject, 2)
        for body in (sbom, other):
            put_manifest(http, "dev/app", sha(body), body).raise_for_status()

        filtered = http.get(f"/v2/dev/app/referrers/{subject}", params={"artifactType": "application/sbom"})
        none = http.get(f"/v2/dev/app/referrers/{sha(b'x')}")

    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert filtered.json()["manifests"] == [
        {
            "mediaType": MANIFEST,
            "digest": sha(sbom),
            "size": len(sbom),
            "artifactType": "application/sbom",
            "annotations": {"number": "1"},
        }
    ]
    assert (none.status_code, none.json()["manifests"]) == (200, [])


# --- authorised -----------------------------------------------------------------------------------


def test_an_anonymous_client_is_asked_for_a_token(emulator: Emulator) -> None:
    """Nothing of the registry is open: without a token, or with a made-up one, the answer is 401."""
    emulator.repository("dev/app")
    emulator.push(emulator.login(), "dev/app:one")

    for password in (None, "ministack-auth-token", "e30=.00", emulator.login() + "0"):
        with emulator.http(password) as http:
            for path in ("/v2/", "/v2/_catalog", "/v2/dev/app/manifests/one", f"/v2/dev/app/referrers/{sha(b'')}"):
                refused = http.get(path)
                assert refused.status_code == 401, path
                assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert emulator.push(None, "dev/app:two").returncode != 0


def test_a_role_that_may_not_push_is_refused(emulator: Emulator) -> None:
    """A role that may pull pulls, and is told which action it lacks when it pushes."""
    emulator.repository("dev/app")
    emulator.push(emulator.login(), "dev/app:one")
    password = emulator.login(**emulator.role("reader", LOGIN, allow(at("dev/*"), *PULL)))

    pulled = emulator.run_crane(password, "validate", "--remote", f"{emulator.host}/dev/app:one")
    pushed = emulator.push(password, "dev/app:two")

    assert pulled.returncode == 0, pulled.stderr
    assert pushed.returncode != 0
    assert "DENIED" in pushed.stderr
    assert "ecr:InitiateLayerUpload" in pushed.stderr
    with emulator.http(password) as http:
        assert http.delete(f"/v2/dev/app/manifests/{sha(b'')}").status_code == 403
        assert put_manifest(http, "dev/app", "two", b"{}").json()["errors"][0]["code"] == "DENIED"


def test_a_role_reaches_its_own_repositories_only(emulator: Emulator) -> None:
    """Development pushes to `dev/*` and cannot even look into `curated/*`."""
    for name in ("dev/app", "curated/app"):
        emulator.repository(name)
    emulator.push(emulator.login(), "curated/app:one")
    password = emulator.login(**emulator.role("development", LOGIN, allow(at("dev/*"), *PULL, *PUSH)))

    own, foreign = emulator.push(password, "dev/app:one"), emulator.push(password, "curated/app:two")

    assert own.returncode == 0, own.stderr
    assert foreign.returncode != 0
    with emulator.http(password) as http:
        for path in ("manifests/one", f"referrers/{sha(b'')}", "tags/list", f"blobs/{sha(b'')}"):
            assert http.get(f"/v2/curated/app/{path}").status_code == 403, path


def test_mounting_needs_the_right_to_read_the_source(emulator: Emulator) -> None:
    """Who cannot read a blob cannot have it linked either, and is asked to upload it."""
    for name in ("dev/app", "curated/app"):
        emulator.repository(name)
    with emulator.http(emulator.login()) as http:
        digest = put_blob(http, "curated/app", b"secret")
    password = emulator.login(**emulator.role("development", LOGIN, allow(at("dev/*"), *PULL, *PUSH)))

    with emulator.http(password) as http:
        mounted = http.post("/v2/dev/app/blobs/uploads/", params={"mount": digest, "from": "curated/app"})

        assert mounted.status_code == 202
        assert http.head(f"/v2/dev/app/blobs/{digest}").status_code == 404


def test_a_token_follows_the_role_and_outlives_the_emulator(emulator: Emulator) -> None:
    """A token still works after a restart, and a right that was taken away is gone at once."""
    emulator.repository("dev/app")
    password = emulator.login(**emulator.role("reader", LOGIN, allow(at("dev/*"), "ecr:ListImages")))
    emulator.kill_and_restart()

    with emulator.http(password) as http:
        before = http.get("/v2/dev/app/tags/list").status_code
        emulator.client("iam").delete_role_policy(RoleName="reader", PolicyName="own")
        after = http.get("/v2/dev/app/tags/list").status_code

    assert (before, after) == (200, 403)


def test_a_role_without_the_right_gets_no_token(emulator: Emulator) -> None:
    """GetAuthorizationToken is itself an action that a policy has to allow."""
    session = emulator.role("nobody", allow("*", "kms:ListKeys"))

    with pytest.raises(ClientError, match="AccessDenied"):
        emulator.login(**session)


def test_a_repository_that_does_not_exist_is_unknown(emulator: Emulator) -> None:
    """Pushing does not create repositories."""
    pushed = emulator.push(emulator.login(), "dev/nowhere:one")

    assert pushed.returncode != 0
    assert "NAME_UNKNOWN" in pushed.stderr


def test_an_immutable_tag_does_not_move(emulator: Emulator) -> None:
    """Neither the registry nor the API moves a tag of an immutable repository."""
    emulator.repository("curated/app", imageTagMutability="IMMUTABLE")
    password = emulator.login()
    first = emulator.push(password, "curated/app:one").stdout.strip()

    second = emulator.push(password, "curated/app:one")
    with pytest.raises(ClientError, match="ImageTagAlreadyExists"):
        emulator.client("ecr").put_image(repositoryName="curated/app", imageManifest="{}", imageTag="one")

    assert "TAG_INVALID" in second.stderr
    found = emulator.run_crane(password, "digest", f"{emulator.host}/curated/app:one").stdout.strip()
    assert found == first.partition("@")[2]


@pytest.mark.parametrize(
    ("reference", "body", "code"),
    [
        ("one", b"no JSON", "MANIFEST_INVALID"),
        ("one", artifact(sha(b"s"), 1), "MANIFEST_BLOB_UNKNOWN"),
        (sha(b"other"), b"{}", "DIGEST_INVALID"),
        ("-", b"{}", "TAG_INVALID"),
        ("one", b" " * (4 * 1024 * 1024 + 1), "SIZE_INVALID"),
    ],
)
def test_a_manifest_that_is_not_whole_is_refused(emulator: Emulator, reference: str, body: bytes, code: str) -> None:
    """A manifest is taken only with all that it names, under its own digest."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        refused = put_manifest(http, "dev/app", reference, body)

        assert refused.json()["errors"][0]["code"] == code
        assert http.get("/v2/dev/app/tags/list").json()["tags"] == []


def test_a_blob_that_is_not_its_digest_is_refused(emulator: Emulator) -> None:
    """Bytes are stored under their own digest or not at all."""
    emulator.repository("dev/app")
    with emulator.http(emulator.login()) as http:
        refused = http.post("/v2/dev/app/blobs/uploads/", params={"digest": sha(b"a")}, content=b"b")

        assert refused.json()["errors"][0]["code"] == "DIGEST_INVALID"
        assert http.head(f"/v2/dev/app/blobs/{sha(b'a')}").status_code == 404


def test_nobody_resets_it_over_the_network(emulator: Emulator) -> None:
    """ministack's own administration would empty everything for anyone who asks."""
    there = make_repository(emulator)

    with emulator.http() as http:
        assert http.post("/_ministack/reset").status_code == 403

    there()
