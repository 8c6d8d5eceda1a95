"""Translation of container specifications into the arguments of the Docker SDK."""

from __future__ import annotations

from typing import Any

from docker.types import LogConfig, Mount, Ulimit

from supply_chain.adapters.docker.engine_reading import NANO
from supply_chain.model.container import ContainerSpec

LOGS = LogConfig(type=LogConfig.types.JSON, config={"max-size": "10m", "max-file": "3"})
"""Log rotation, so that a container that writes without end does not fill its host's disk."""

NO_HEALTH_CHECK = {"test": ["NONE"]}
"""Disables the image's own health check.

The engine keeps few events, and a frequent health check would push the important ones out. One that runs a shell would
look like an intruder. Readiness is checked by requests instead.
"""

SHARES = 1024
"""Processor weight of a container that may use one processor, where processors are short."""


def make_container_options(spec: ContainerSpec) -> dict[str, Any]:
    """Return the arguments of the SDK that create a container."""
    profile = spec.profile
    uid, _, gid = profile.user.partition(":")
    memory_mount = f"rw,noexec,nosuid,nodev,size={profile.memory},mode=0700,uid={uid},gid={gid}"
    options: dict[str, Any] = {
        "name": spec.name,
        "labels": spec.labels,
        "user": profile.user,
        "environment": spec.environment,
        "read_only": profile.read_only,
        "tmpfs": dict.fromkeys(profile.writable, memory_mount),
        "cap_drop": list(profile.dropped),
        "cap_add": list(profile.capabilities),
        "security_opt": ["no-new-privileges:true"] if profile.no_new_privileges else [],
        "mem_limit": profile.memory,
        "memswap_limit": profile.memory,
        "pids_limit": profile.pids,
        "nano_cpus": round(profile.cpu * NANO) or None,
        "cpu_shares": round(profile.cpu * SHARES) or None,
        "init": profile.init,
        "network": spec.network,
        "ports": {f"{p.container_port}/tcp": (p.address, p.port) for p in spec.published},
        "mounts": [Mount(target=v.path, source=v.name, type="volume") for v in spec.volumes],
        "restart_policy": make_restart_policy(spec.restart),
        "stop_signal": "SIGTERM",
        "log_config": LOGS,
        "healthcheck": NO_HEALTH_CHECK,
    }
    if spec.largest_file is not None:
        options["ulimits"] = [Ulimit(name="fsize", soft=spec.largest_file, hard=spec.largest_file)]
    if spec.command:
        options |= {"entrypoint": list(spec.command), "command": []}
    return options


def make_restart_policy(always: bool) -> Any:
    """Return the restart policy of a container that is always started again, unless it was stopped, or never."""
    return {"Name": "unless-stopped" if always else "no"}
