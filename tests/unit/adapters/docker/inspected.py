"""What the engine says about a container."""

from __future__ import annotations

from typing import Any

DIGEST = "sha256:" + "ab" * 32
INSPECTED: dict[str, Any] = {
    "Id": "c" * 64,
    "Name": "/staging-hello-1",
    "Image": DIGEST,
    "Created": "2026-11-24T17:00:00.123456789Z",
    "RestartCount": 2,
    "State": {
        "Status": "exited",
        "Pid": 0,
        "ExitCode": 137,
        "OOMKilled": True,
        "Error": "",
        "StartedAt": "2026-11-24T17:00:01.5Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Config": {
        "User": "10001:10001",
        "Env": ["A=1=2", "EMPTY="],
        "Entrypoint": ["/app"],
        "Cmd": ["serve"],
        "Labels": {"cscm.managed": "true"},
    },
    "HostConfig": {
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw"},
        "CapAdd": ["CAP_CHOWN"],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"],
        "Memory": 134217728,
        "PidsLimit": 64,
        "Privileged": False,
        "NetworkMode": "host",
        "PidMode": "",
        "Devices": None,
        "RestartPolicy": {"Name": "unless-stopped"},
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]},
    },
    "Mounts": [{"Type": "bind", "Destination": "/host"}, {"Type": "tmpfs", "Destination": "/tmp"}],
    "NetworkSettings": {"Networks": {"cscm-staging": {"IPAddress": "172.18.0.2"}}},
}
