"""An emulator in an environment of its own, called with boto3, crane and plain HTTP."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from cscm_laptop.home import Home
from tests.support.command import ROOT
from tests.support.place import free_port
from tests.support.waiting import PLAIN, until_ready

REGION = "us-east-1"
ACCOUNT = "000000000000"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"
SLOW = """
import os, time
fsync = os.fsync
os.fsync = lambda handle: (time.sleep({seconds}), fsync(handle))[1]
"""


def has_ministack(python: Path) -> bool:
    return (
        python.exists() and subprocess.run([python, "-c", "import ministack, hypercorn"], check=False).returncode == 0
    )


@pytest.fixture(scope="session")
def python(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the emulator's environment: the installed one, or one that is made from the lock file."""
    installed = home.emulator / "bin/python"
    if has_ministack(installed):
        return installed
    directory = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    lock = ROOT / "deployments" / "emulator.lock"
    install = ("install", "-q", "--require-hashes", "--no-deps", "-r", lock)
    subprocess.run([directory / "bin" / "pip", *install], check=True)
    return directory / "bin" / "python"


@pytest.fixture(scope="session")
def crane(home: Home) -> str:
    built = [path for path in (home.tools / "crane", *sorted(home.tools.glob("crane-*/crane"))) if path.is_file()]
    found = str(built[-1]) if built else shutil.which("crane")
    assert found, "crane is needed: run `cscm up`, or put it on PATH"
    return found


@dataclass
class Emulator:
    """An emulator with its state in a directory; it can be killed and restarted."""

    python: Path
    crane: str
    directory: Path
    disk: float = 0.0
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def command(self) -> list[str | Path]:
        return [self.python, "-m", "cscm_laptop.emulator", "--port", str(self.port), "--state", self.state]

    @property
    def environment(self) -> dict[str, str]:
        """The process environment. With `disk`, each fsync takes that many seconds, as on a slow disk."""
        slow = self.directory / "slow"
        slow.mkdir(exist_ok=True)
        (slow / "sitecustomize.py").write_text(SLOW.format(seconds=self.disk))
        return {"PYTHONPATH": f"{ROOT / 'src'}:{slow}"}

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        until_ready(self.process, self.host, self.directory / "log")

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)
        self.process.wait(20)

    def kill_and_restart(self) -> None:
        self.end()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{self.host}/_cscm/health", trust_env=False, verify=PLAIN)
        self.start()

    @property
    def root(self) -> dict[str, str]:
        """The access key of root, as arguments of `client`."""
        stored = json.loads((self.state / "root-key.json").read_text())
        return {"key": stored["access_key_id"], "secret": stored["secret_access_key"]}

    def client(self, service: str, key: str = "", secret: str = "", token: str | None = None) -> Any:
        """Return a client with these credentials, or with those of root if there are none."""
        if not key:
            return self.client(service, **self.root)
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=f"http://{self.host}",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )

    def remove_repositories(self) -> None:
        ecr = self.client("ecr")
        for each in ecr.describe_repositories()["repositories"]:
            ecr.delete_repository(repositoryName=each["repositoryName"], force=True)

    def repository(self, name: str, **settings: Any) -> str:
        return str(self.client("ecr").create_repository(repositoryName=name, **settings)["repository"]["repositoryArn"])

    def role(self, name: str, *statements: dict[str, Any]) -> dict[str, str]:
        """Create or change a role and return its temporary credentials, as arguments of `client`."""
        trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
        iam = self.client("iam")
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(*statements))
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        made = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"], "token": made["SessionToken"]}

    def login(self, **credentials: str) -> str:
        """Return the registry's password for these credentials, or for those of root if there are none."""
        data = self.client("ecr", **credentials).get_authorization_token()["authorizationData"][0]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        assert user == "AWS"
        return password

    def http(self, password: str | None = None) -> httpx.Client:
        auth = ("AWS", password) if password else None
        return httpx.Client(base_url=f"http://{self.host}", auth=auth, trust_env=False, timeout=30, verify=PLAIN)

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
        """Push an image with one layer of random bytes to `repository:tag`; its reference is printed to stdout."""
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


@contextlib.contextmanager
def running(python: Path, crane: str, directory: Path, disk: float = 0.0) -> Iterator[Emulator]:
    """Start an emulator, and end it after the block if a test has not."""
    started = Emulator(python, crane, directory, disk=disk)
    started.start()
    yield started
    if started.process and started.process.poll() is None:
        started.end()


@pytest.fixture
def emulator(python: Path, crane: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with running(python, crane, tmp_path, getattr(request, "param", 0.0)) as started:
        yield started
    print((tmp_path / "log").read_text())  # pytest shows it with a failed test


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
