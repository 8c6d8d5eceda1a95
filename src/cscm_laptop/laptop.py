"""Start, inspect, stop and remove a complete supply chain on one machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cscm_laptop import emulator_service, firewall, namespaces, prefect_server
from cscm_laptop.cluster import cluster
from cscm_laptop.cluster.lost import remove_lost_cluster
from cscm_laptop.engine import Engine, clear, engine_answers, ensure_engine, make_engine_service, read_engine_url, wake
from cscm_laptop.home import Home
from cscm_laptop.ports import request
from cscm_laptop.profile import Profile
from cscm_laptop.services import Progress, Record, Service, read_record, stop
from cscm_laptop.tools.installer import Installer
from cscm_laptop.vulndb import FEED, ensure_database
from orchestration.registration import (
    ensure_abandoned,
    ensure_automations,
    ensure_process_pool,
    ensure_queues,
    ensure_views,
    free_slots,
    list_registered_deployments,
    read_declared_deployments,
    remove_undeclared_deployments,
)
from supply_chain.adapters.aws.accounts import (
    POLICIES,
    Accounts,
    Administrator,
    BridgeIdentity,
    TierIdentity,
    ensure_accounts,
)
from supply_chain.adapters.docker.build_cgroup import remove_groups
from supply_chain.adapters.process.cancellation import run_concurrently
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools.manifest_renderer import find_needed
from supply_chain.adapters.tools.pins import Pins
from supply_chain.adapters.tools.toolbox import Toolbox
from supply_chain.adapters.vulndb import Database, read_database
from supply_chain.development.bases import REGISTRIES
from supply_chain.development.content import (
    DEBIAN_ARCHIVES,
    NPM_REGISTRIES,
    PYTHON_INDEXES,
    DebianArchiveLine,
    NpmRegistryUrl,
    PackageIndexUrl,
)
from supply_chain.errors import ComponentFailed, DatabaseUnusable, EngineUnavailable, PortBusy, SettingInvalid
from supply_chain.model.container import OWNER
from supply_chain.model.image import Model
from supply_chain.model.tier import TierName
from supply_chain.policy.people import LAPTOP
from supply_chain.promotion.freeze import VARIABLE, PromotionFreeze
from supply_chain.scratch import sweep, write_private
from supply_chain.text import summarize_error

PINS = Path("deployments/tools.yaml")
DATABASE_CHECK = timedelta(hours=20)
"""How long an official database is used before the network is asked for a newer one."""


class LaptopState(Model):
    """State of the running laptop, from which its blocks are made. It holds secrets."""

    endpoint_url: str
    region: str
    account: str
    registry: str
    identities: dict[TierName, TierIdentity]
    bridge: BridgeIdentity
    storage_key: str
    content_key: str
    forensics_key: str
    prefect_api_url: str
    project: Path
    tools: Path
    database_directory: Path
    state: Path
    database: Database
    engine: Engine
    owner: str
    inventory: str
    build_network: str
    ca_bundle: Path | None
    bases: dict[str, str | None]
    registries: tuple[str, ...] = REGISTRIES
    python_indexes: tuple[PackageIndexUrl, ...] = PYTHON_INDEXES
    debian_archives: tuple[DebianArchiveLine, ...] = DEBIAN_ARCHIVES
    npm_registries: tuple[NpmRegistryUrl, ...] = NPM_REGISTRIES
    notify: str = "supply-chain-log/operators"
    lifecycle: str = "plan"
    people_owner: str
    installation: str = LAPTOP
    policies_signed_since: datetime | None = None
    kubeconfig: Path | None = None
    """Of the administrator of the laptop's cluster; None if there is no cluster."""


class Part(Model):
    """State of one part, for people and for `--json`."""

    name: str
    running: bool
    pid: int | None = None
    address: str = ""
    since: datetime | None = None
    note: str = ""


Register = Callable[[LaptopState], None]


def start_laptop(profile: Profile, home: Home, progress: Progress, *, register: Register) -> LaptopState:
    """Start what does not run, make what is missing and register what changed; return when all is ready.

    `register` writes the state into Prefect's blocks; it is called only if the state, the blocks' code or the server
    is new. Raises a `SupplyChainError` that names the part that failed and the remedy.
    """
    home.create()
    with home.locked():
        profile.certificates()
        _free_ports(profile, home)
        sweep()
        accounts, (engine, database, people_owner), _ = run_concurrently(
            lambda: _aws(profile, home, progress),
            lambda: _machine(profile, home, progress),
            lambda: _server(profile, home, progress),
        )
        state = _state(profile, home, accounts, engine, database, people_owner)
        write_private(home.laptop_state, state.model_dump_json(indent=2))
        register_changed(state, home, progress, register)
        _deployments(profile, home, progress)
        _automations(profile, home, progress)
        _ensure(prefect_server.make_prefork_service(home, profile), progress)
        _ensure(prefect_server.make_worker_service(home, profile), progress)
        _ensure(prefect_server.make_bridge_service(home, profile), progress)
    return state


def _free_ports(profile: Profile, home: Home) -> None:
    """Raise `PortBusy` with every port that another program holds; called before anything is made."""
    services = (
        emulator_service.make_emulator_service(home, profile),
        prefect_server.make_server_service(home, profile),
    )
    if messages := [message for service in services if (message := service.explain_taken_port())]:
        raise PortBusy("\n".join(messages))


def _aws(profile: Profile, home: Home, progress: Progress) -> Accounts:
    emulator_service.ensure_environment(home, progress)
    _ensure(emulator_service.make_emulator_service(home, profile), progress)
    root = emulator_service.open_root_session(emulator_service.locate_root_key(home), profile.region)
    admin = Administrator.of(root, emulator_service.make_endpoint_url(profile))
    return ensure_accounts(admin, home.project / POLICIES, home.state / "access-keys.json")


def _machine(profile: Profile, home: Home, progress: Progress) -> tuple[Engine, Database, str]:
    engine = ensure_engine(home, progress)  # before the tools, because both may run apt
    _separate_builds(home, engine, progress)
    namespaces.require()
    toolbox = Installer(home.tools, select_needed_pins(home.project))
    toolbox.ensure(progress)
    return engine, _database(toolbox, profile, home, progress), ensure_people_owner(toolbox.find("cosign"), home)


def select_needed_pins(project: Path) -> Pins:
    """Return the pins of the tools that a project uses: those that render manifests only if it has some to render."""
    return Pins.load(project / PINS).needed(find_needed(project / "deployments"))


def install(profile: Profile, home: Home, tools: Sequence[str], progress: Progress) -> None:
    """Install some of the pinned tools, grype among them, and make the vulnerability database; start nothing."""
    home.create()
    with home.locked():
        pins = Pins.load(home.project / PINS)
        needed = pins.model_copy(update={"tools": {name: pins.tools[name] for name in tools}})
        toolbox = Installer(home.tools, needed)
        toolbox.ensure(progress)
        _database(toolbox, profile, home, progress)


def _separate_builds(home: Home, engine: Engine, progress: Progress) -> None:
    """Set the firewall rules of the build network if this user may; report it if some could not be set."""
    if os.geteuid() == 0 and engine.url.startswith("unix://") and firewall.set_rules(home.owner):
        progress("engine: build steps may reach link-local addresses; `cscm doctor` says what is missing")


def _database(toolbox: Toolbox, profile: Profile, home: Home, progress: Progress) -> Database:
    """Return the vulnerability database; ask the network for a newer one only every `DATABASE_CHECK`."""
    grype = toolbox.find("grype")
    stamp = home.state / "database.json"
    fingerprint = prefect_server.hash_files([FEED], grype.version, profile.database)
    if _read(stamp).get("made") == fingerprint and datetime.now(UTC) < _moment(stamp) + DATABASE_CHECK:
        try:
            return read_database(home.database)
        except DatabaseUnusable as error:
            progress(f"database: {error}")
    database = ensure_database(grype, home.database, FEED, progress, starter_only=profile.database == "starter")
    write_private(stamp, json.dumps({"made": fingerprint, "at": datetime.now(UTC).isoformat()}))
    return database


def _server(profile: Profile, home: Home, progress: Progress) -> None:
    service, ask = prefect_server.make_server_service(home, profile), prefect_server.make_prefect_api(home, profile)
    before = service.record()
    if _ensure(service, progress) != before:
        free_slots(prefect_server.locate_leases(home), ask)
    ensure_process_pool(prefect_server.POOL, prefect_server.run_command(home), home.project, ask)


def _ensure(service: Service, progress: Progress) -> Record:
    if service.record() is None:
        progress(f"{service.name}: starting")
    record, started = service.ensure(progress)
    if started:
        progress(f"{service.name}: ready" + (f" on {service.address}" if service.port else ""))
    return record


def ensure_people_owner(cosign: Tool, home: Home) -> str:
    """Return the public key (PEM) of the owner of the people document; make the key pair if there is none.

    The private key is `owner.key`, without a password: whoever can read the home has every other key too.
    """
    public = home.people_owner
    if not public.exists():
        directory = home.state / "people.new"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        tool = cosign.with_environment(COSIGN_PASSWORD="")
        tool.run("generate-key-pair", "--output-key-prefix", directory / "owner", timeout=60, quiet=True)
        directory.rename(public.parent)
    return public.read_text(encoding="ascii")


def _state(
    profile: Profile, home: Home, accounts: Accounts, engine: Engine, database: Database, people_owner: str
) -> LaptopState:
    return LaptopState(
        endpoint_url=emulator_service.make_endpoint_url(profile),
        region=profile.region,
        account=accounts.account,
        registry=profile.registry,
        identities=accounts.identities,
        bridge=accounts.bridge,
        storage_key=accounts.storage_key,
        content_key=accounts.content_key,
        forensics_key=accounts.forensics_key,
        prefect_api_url=prefect_server.make_api_url(profile),
        project=home.project,
        tools=home.tools,
        database_directory=home.database,
        state=home.state,
        database=database,
        engine=engine,
        owner=home.owner,
        inventory=profile.inventory or f"sqlite:///{home.state / 'inventory.db'}",
        build_network=profile.build_network,
        ca_bundle=profile.certificates(),
        bases=dict(profile.bases),
        registries=profile.registries,
        python_indexes=profile.python_indexes,
        debian_archives=profile.debian_archives,
        npm_registries=profile.npm_registries,
        notify=profile.notify,
        lifecycle=profile.lifecycle,
        people_owner=people_owner,
        policies_signed_since=profile.policies_signed_since,
        kubeconfig=cluster.find_kubeconfig(home),
    )


def register_changed(state: LaptopState, home: Home, progress: Progress, register: Register) -> None:
    """Call `register`, unless exactly this state was registered before in this server's database."""
    stamp = home.state / "prefect" / "blocks.json"
    fingerprint = prefect_server.hash_files((home.project / "blocks").rglob("*.py"), state.model_dump_json())
    if _read(stamp).get("made") == fingerprint:
        return
    progress("blocks: registering")
    register(state)
    write_private(stamp, json.dumps({"made": fingerprint}))


def _deployments(profile: Profile, home: Home, progress: Progress) -> None:
    """Register the deployments if they changed or the server lacks one; correct the work queues in any case."""
    stamp = home.state / "prefect" / "deployments.json"
    fingerprint = prefect_server.hash_deployments(home.project)
    ask = prefect_server.make_prefect_api(home, profile)
    if _read(stamp).get("made") == fingerprint and read_declared_deployments(
        home.project
    ) <= list_registered_deployments(ask):
        if changed := ensure_queues(home.project, ask):
            progress(f"work queues: {', '.join(changed)}")
        return
    prefect_server.deploy(home, profile, ask, progress)
    if removed := remove_undeclared_deployments(home.project, ask, _is_of_our_flows):
        progress(f"deployments: no longer declared, removed: {', '.join(removed)}")
    write_private(stamp, json.dumps({"made": fingerprint}))


def _is_of_our_flows(deployment: Mapping[str, Any]) -> bool:
    """Return whether a deployment is of our flows, with or without a tag: the server serves this laptop alone."""
    return str(deployment.get("entrypoint") or "").startswith("flows.")


def _automations(profile: Profile, home: Home, progress: Progress) -> None:
    """Create the automations and views that are missing, and correct those that differ."""
    ask = prefect_server.make_prefect_api(home, profile)
    if changed := (*ensure_automations(home.project, profile.notify, ask), *ensure_abandoned(ask)):
        progress(f"automations: {', '.join(changed)}")
    if changed := ensure_views(home.project, ask):
        progress(f"views: {', '.join(changed)}")


def _read(stamp: Path) -> dict[str, Any]:
    """Read a stamp file; return an empty mapping if it is missing or damaged, so that the work is repeated."""
    try:
        content = json.loads(stamp.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _moment(stamp: Path) -> datetime:
    at = _read(stamp).get("at")
    return datetime.fromisoformat(at) if isinstance(at, str) else datetime.min.replace(tzinfo=UTC)


def load_state(home: Home) -> LaptopState:
    """Return the state that the last `up` wrote; raise `ComponentFailed` if it is missing or damaged."""
    try:
        return LaptopState.model_validate_json((home.laptop_state).read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise ComponentFailed(f"No supply chain was brought up in {home.directory}.\nRun `cscm up`.") from error


def list_records(home: Home) -> list[Record]:
    """Return the processes that we started and that still run, in the order in which to stop them."""
    candidates = (
        read_record(home.run / f"{name}.json")
        for name in ("bridge", "worker", "prefork", "prefect", "emulator", "engine")
    )
    return [record for record in candidates if record and record.is_alive()]


def stop_laptop(home: Home, progress: Progress, *, keep: frozenset[str] = frozenset()) -> None:
    """Stop the processes that we started, except those named in `keep`; state and deployed containers stay."""
    if not home.run.is_dir():
        return
    with home.locked():
        for record in list_records(home):
            if record.name not in keep:
                progress(f"{record.name}: stopping (pid {record.pid})")
                stop(record, grace=30.0)
                (home.run / f"{record.name}.json").unlink(missing_ok=True)


def reset(home: Home, progress: Progress) -> None:
    """Stop everything, remove what this home's chains and cluster made in the engine and on the host, and the home.

    Raises `SettingInvalid` if `up` did not make the home. Raises `EngineUnavailable` if the engine may run something
    for this home but neither answers nor can be started; the home then stays, because it is needed to remove that.
    """
    if not home.directory.exists():
        return
    if not home.is_ours():
        raise SettingInvalid(
            f"{home.directory} was not made by `cscm up`, so it is not removed.\n"
            "Look at CSCM_HOME, or remove it yourself."
        )
    cluster.remove(home, progress)
    stop_laptop(home, progress, keep=frozenset({"engine"}))
    _clear(home, progress)
    stop_laptop(home, progress)
    _remove_from_host(home.owner)
    progress(f"removing {home.directory}")
    shutil.rmtree(home.directory)


def remove_left(owner: str, progress: Progress) -> None:
    """Remove what a lost supply chain left in the engine and, as root, on its machine with its cluster.

    Raises `EngineUnavailable` if no engine answers; what was left on the machine is removed then.
    """
    remove_lost_cluster(owner, progress)
    _remove_from_host(owner)
    remove_from_engine(owner, progress)


def _remove_from_host(owner: str) -> None:
    if os.geteuid() == 0:
        firewall.remove_rules(owner)
        remove_groups(owner)


def _clear(home: Home, progress: Progress) -> None:
    registry = _registry(home)
    try:
        if registry:
            wake(home, progress)
        remove_from_engine(home.owner, progress, registry)
    except EngineUnavailable as error:
        if registry:
            raise EngineUnavailable(
                f"{summarize_error(error)}.\n"
                "Nothing was removed, because containers of this supply chain may run there. "
                f"Start the engine and run this again; or, to leave all that is labelled {OWNER}={home.owner} in it, "
                f"remove {home.directory} yourself."
            ) from error


def _registry(home: Home) -> str | None:
    try:
        return load_state(home).registry
    except ComponentFailed:  # it was never started
        return None


def remove_from_engine(owner: str, progress: Progress, registry: str | None = None) -> None:
    """Remove the containers, networks and volumes of an owner's chains; raise `EngineUnavailable` if no engine answers.

    If `registry` is given, also remove the images of that registry.
    """
    clear(f"{OWNER}={owner}", f"{registry}/" if registry else None, progress)


def read_laptop_status(profile: Profile, home: Home) -> list[Part]:
    """Return the state of each part: whether it runs and answers, its address, and since when."""
    prefect = _part(prefect_server.make_server_service(home, profile))
    if prefect.running and not prefect.note:
        prefect = prefect.model_copy(update={"note": find_freeze_author(profile, home)})
    runners = (
        part(home, profile)
        for part in (
            prefect_server.make_prefork_service,
            prefect_server.make_worker_service,
            prefect_server.make_bridge_service,
        )
    )
    return [
        _engine_part(home),
        _part(emulator_service.make_emulator_service(home, profile)),
        prefect,
        *map(_part, runners),
    ]


def find_freeze_author(profile: Profile, home: Home) -> str:
    """Return who froze promotions; empty if nobody did, or if the server does not answer."""
    auth = prefect_server.ensure_auth_string(home)
    try:
        status, variable = request("GET", profile.ports.prefect, f"/api/variables/name/{VARIABLE}", auth=auth)
    except (OSError, HTTPException):
        return ""
    if status != 200:
        return ""
    try:
        return str(PromotionFreeze.model_validate(variable["value"]))
    except (KeyError, TypeError, ValidationError):
        return f"promotions are frozen: the variable {VARIABLE} does not say by whom; `cscm unfreeze` removes it"


def _part(service: Service) -> Part:
    record = service.record()
    if record is None:
        return Part(name=service.name, running=False, address=service.address)
    note = "" if service.ready() else f"does not answer; see {service.log}"
    return Part(
        name=service.name,
        running=True,
        pid=record.pid,
        address=record.address,
        since=record.since,
        note=note,
    )


def _engine_part(home: Home) -> Part:
    service = make_engine_service(home)
    if service.record():
        return _part(service)
    url = read_engine_url()
    answers = engine_answers(url)
    return Part(name="engine", running=answers, address=url, note="not started by us" if answers else "")
