"""Prefect on this machine: server, work pool, worker and deployments, all run as commands.

This module does not import Prefect: that import takes seconds, while a request to a running server takes
milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cscm_laptop import patient
from cscm_laptop.home import Home, ensure_text
from cscm_laptop.ports import HOST, answers, is_served, request_json
from cscm_laptop.profile import Profile, load_profile
from cscm_laptop.services import OURS_ALONE, Progress, Service, read_record
from orchestration import registration
from orchestration.project import HOME, PREFORK_SOCKET, PROJECT
from orchestration.registration import PrefectApi
from orchestration.registration.abandoned_runs import FREQUENCY
from orchestration.registration.work_pools import list_heartbeats
from supply_chain.errors import ComponentFailed

CSP = "content-security-policy"
POOL = "supply-chain"
WORKER = "laptop"
FRESH = timedelta(seconds=100)
"""How recent a sign of life has to be. A worker sends a heartbeat every 30 s."""

PREFORK_CLIENT = Path("src/orchestration/prefork_client.py")
ROOMS = ("src", "flows", "tasks", "blocks")
"""The directories of the code that a run imports."""

BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "200",
}
"""Batch settings of the server. Measured: without them, each subflow waits about 2 s for the locked database."""
CLEANUP = {"PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "300"}
"""How often the server looks for children of cancelled runs: each time for those of every run of the last day, which
takes 0.1 s of a processor for each run. Prefect's default is 20.
"""


def ensure_auth_string(home: Home) -> str:
    """Return the `user:password` of this laptop's Prefect API and UI; made once."""
    return ensure_text(home.state / "prefect.auth", lambda: f"cscm:{secrets.token_urlsafe(24)}")


def make_api_url(profile: Profile) -> str:
    """Return the URL where clients reach the server's API."""
    return f"http://{HOST}:{profile.ports.prefect}/api"


def make_prefect_environment(home: Home, profile: Profile) -> dict[str, str]:
    """Return the environment of the server, the worker and every client; set it before importing Prefect."""
    auth = ensure_auth_string(home)
    return {
        "PREFECT_HOME": str(home.state / "prefect"),
        "PREFECT_PROFILES_PATH": str(home.state / "prefect" / "profiles.toml"),
        "PREFECT_API_URL": make_api_url(profile),
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_API_SSL_CERT_FILE": str(_nobody(home)),
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(profile.ports.prefect),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "supply_chain",
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        **FREQUENCY,
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home.state / "results"),
        **BATCHES,
        **CLEANUP,
    }


def require_server() -> dict[str, str]:
    """Return the environment of clients of the laptop around the working directory.

    Raises `ComponentFailed` unless its server answers.
    """
    home = Home.find()
    profile = load_profile(home.project)
    port, environment = profile.ports.prefect, make_prefect_environment(home, profile)
    if not answers(port, "/api/health"):
        raise ComponentFailed("Prefect's server does not answer.\nStart the supply chain of this machine: cscm up")
    if not answers(port, "/api/admin/version", auth=environment["PREFECT_API_AUTH_STRING"]):
        raise ComponentFailed(
            f"The Prefect server on port {port} is not the one of {home.directory}.\n"
            "Stop it, or give this supply chain another port in deployments/profiles/laptop.yaml; then: cscm up"
        )
    return environment


def _nobody(home: Home) -> Path:
    """Return a file with the only authority that clients trust: a certificate whose key nobody has, made once.

    The API is on loopback and has no TLS. Without this file, each of about 24 clients of a chain would read all
    authorities that the machine trusts.
    """
    file = home.state / "prefect-nobody.pem"
    ensure_text(file, _certificate_of_nobody)
    return file


def _certificate_of_nobody() -> str:
    from cryptography import x509  # noqa: PLC0415 - needed once in the life of a home
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def run_environment(home: Home, profile: Profile) -> dict[str, str]:
    """Return the environment of flow runs and of Prefect's command: also the project's code, and no prompts."""
    return {
        **make_prefect_environment(home, profile),
        "PYTHONPATH": os.pathsep.join([str(home.project / "src"), str(home.project)]),
        "PYTHONUNBUFFERED": "1",
        HOME: str(home.directory),
        PROJECT: str(home.project),
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_CLI_COLORS": "false",
    }


def make_content_policy(port: int) -> str:
    """Return the content security policy that lets Prefect's UI connect to its server alone.

    Without it, the UI asks an analytics service for settings, although analytics are off, and other hosts for
    pictures. See W3C, Content Security Policy Level 3.
    """
    here = f"http://{HOST}:{port} ws://{HOST}:{port}"
    return f"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' {here}"


def make_server_service(home: Home, profile: Profile) -> Service:
    """Return the service of Prefect's server with its UI, on SQLite; it migrates its database when it starts.

    It is started as by `prefect server start --background`, but behind `patient`, and with a header that lets the UI
    connect to this server alone.
    """
    port = profile.ports.prefect
    return Service(
        name="prefect",
        argv=(
            *(sys.executable, "-m", "uvicorn", "--factory", f"{patient.__name__}:application"),
            *("--host", HOST, "--port", str(port), "--log-level", "warning"),
            *("--header", f"{CSP}:{make_content_policy(port)}"),
        ),
        environment={
            **run_environment(home, profile),
            "PREFECT__SERVER_FINAL": "1",
            patient.FACTORY: "prefect.server.api.server:create_app",
        },
        cwd=home.state,
        log=home.log / "prefect.log",
        pid_file=home.run / "prefect.json",
        ready=lambda: answers(port, "/api/health"),
        port=port,
        setting="ports.prefect in the profile (deployments/profiles/laptop.yaml)",
        deadline=120,
        changes=version("prefect"),
    )


def run_command(home: Home) -> str:
    """Return the command that starts a run: a copy of the prefork server if it runs, else a new process."""
    return shlex.join(
        [sys.executable, "-I", "-S", str(home.project / PREFORK_CLIENT), str(home.directory / PREFORK_SOCKET)]
    )


def make_prefork_service(home: Home, profile: Profile) -> Service:
    """Return the service of the prefork server, which has imported what a run needs; runs are copies of it."""
    socket = home.directory / PREFORK_SOCKET
    code = (file for room in ROOMS for file in (home.project / room).rglob("*.py"))
    return Service(
        name="prefork",
        argv=(sys.executable, "-m", "orchestration.prefork_server", str(socket)),
        environment=run_environment(home, profile),
        cwd=home.project,
        log=home.log / "prefork.log",
        pid_file=home.run / "prefork.json",
        ready=lambda: is_served(socket),
        deadline=60,
        changes=hash_files((*code, home.project / "requirements.lock"), version("prefect")),
    )


def make_worker_service(home: Home, profile: Profile) -> Service:
    """Return the service of the worker, which runs the deployments; a signal to stop it also goes to its runs."""
    pid_file = home.run / "worker.json"
    pool = ("--pool", POOL, "--name", WORKER, "--command", run_command(home))
    code = (home.project / "src/orchestration").rglob("*.py")
    return Service(
        name="worker",
        argv=(sys.executable, "-m", "orchestration.worker", *pool),
        environment=run_environment(home, profile),
        cwd=home.project,
        log=home.log / "worker.log",
        pid_file=pid_file,
        ready=lambda: worker_answers(make_prefect_api(home, profile), pid_file),
        deadline=90,
        whole_group=True,
        changes=hash_files(code, version("prefect")),
    )


def make_bridge_service(home: Home, profile: Profile) -> Service:
    """Return the service of the bridge, which turns ECR's push events into Prefect events."""
    pid_file, alive = home.run / "bridge.json", home.run / "bridge.alive"
    code = [home.project / "src/supply_chain/promotion", home.project / "src/supply_chain/adapters/aws/sqs.py"]
    files = [file for each in code for file in (each.rglob("*.py") if each.is_dir() else [each])]
    return Service(
        name="bridge",
        argv=(sys.executable, "-m", "cscm.main", "bridge", "--alive", str(alive)),
        environment=run_environment(home, profile),
        cwd=home.project,
        log=home.log / "bridge.log",
        pid_file=pid_file,
        ready=lambda: was_touched_recently(alive, pid_file),
        deadline=60,
        changes=hash_files(files, version("prefect")),
    )


def was_touched_recently(alive: Path, pid_file: Path) -> bool:
    """Return whether the process that the pid file names touched the file `alive` recently."""
    record = read_record(pid_file)
    try:
        touched = datetime.fromtimestamp(alive.stat().st_mtime, UTC)
    except FileNotFoundError:
        return False
    return record is not None and touched > record.since and datetime.now(UTC) - touched < FRESH


def make_prefect_api(home: Home, profile: Profile) -> PrefectApi:
    """Return a function that sends requests to this laptop's server.

    It needs no import of Prefect, unlike `orchestration.registration.client`, which is for any server.
    """
    auth = ensure_auth_string(home)

    def ask(method: str, path: str, body: Any = None) -> Any:
        return request_json(method, profile.ports.prefect, f"/api{path}", body=body, auth=auth)

    return ask


def locate_leases(home: Home) -> Path:
    """Return the directory of the leases of the server's concurrency limits."""
    return home.state / "prefect" / "concurrency_leases"


def worker_answers(ask: PrefectApi, pid_file: Path) -> bool:
    """Return whether the server got a recent heartbeat of the worker that the pid file names."""
    record = read_record(pid_file)
    try:
        heard = list_heartbeats(POOL, WORKER, ask)
    except ComponentFailed:
        return False
    return record is not None and any(moment > record.since and datetime.now(UTC) - moment < FRESH for moment in heard)


def deploy(home: Home, profile: Profile, ask: PrefectApi, progress: Progress) -> None:
    """Register every deployment of `prefect.yaml`, in the environment of this laptop's clients."""
    settings = {**run_environment(home, profile), "PYTHONDONTWRITEBYTECODE": ""}
    python = [*make_unset_command(set(os.environ) - set(settings)), sys.executable]
    registration.deploy(home.project, python, settings, ask, progress)


def make_unset_command(environ: Iterable[str]) -> list[str]:
    """Return `env -u NAME …`, which runs a command without the variables that would reconfigure it."""
    names = [name for name in sorted(environ) if name.startswith(OURS_ALONE)]
    return ["/usr/bin/env", *(word for name in names for word in ("-u", name))]


def hash_deployments(project: Path) -> str:
    """Return a hash that changes if the deployments have to be registered again.

    It is over `prefect.yaml`, `pyproject.toml`, the flows, Prefect's version and the project's path.
    """
    files = [project / "prefect.yaml", project / "pyproject.toml", *(project / "flows").rglob("*.py")]
    return hash_files(files, version("prefect"), str(project))


def hash_files(files: Iterable[Path], *more: str) -> str:
    """Return a hash over the files that exist, by name and content, and over `more`."""
    digest = hashlib.sha256("\0".join(more).encode())
    for file in sorted(filter(Path.is_file, files)):
        digest.update(f"\0{file}\0".encode() + file.read_bytes())
    return digest.hexdigest()
