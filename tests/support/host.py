"""A snapshot of what a cluster could change on its host, to compare the host before and after."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from cscm_laptop.cluster.host import CNI_RESULTS, OWN, PROC_SYS, RECORDS, SHARED, SYSCTLS

ENGINE = re.compile(r"docker|br-[0-9a-f]{12}|veth", re.IGNORECASE)
"""What belongs to the container engine."""
EMPTY = re.compile(r"#|\*filter|COMMIT|:[A-Z]+ ACCEPT$|table ip filter$")
"""The table that the first call of iptables makes, its chains without rules, and comments."""

COMMANDS = {
    "rules of iptables": ("iptables-save",),
    "tables of nftables": ("nft", "list", "tables"),
    "sets": ("ipset", "list", "-name"),
    "interfaces": ("ip", "-brief", "link"),
    "addresses": ("ip", "-brief", "-4", "address"),
    "routes": ("ip", "route"),
}


def snapshot_host(cluster: Path) -> dict[str, list[str]]:
    """Return everything outside of the cluster's directory that a cluster could leave behind, by kind."""
    found = {
        kind: _stable(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for kind, command in COMMANDS.items()
    }
    found["settings"] = [f"{name}={(PROC_SYS / name).read_text().strip()}" for name in SYSCTLS]
    files = [*OWN, *SHARED, RECORDS, *(path for top in (*OWN, CNI_RESULTS, RECORDS) for path in top.rglob("*"))]
    found["files"] = sorted({str(path) for path in files if path.exists()})
    found["cgroups"] = sorted(str(path) for path in Path("/sys/fs/cgroup").glob("*/cscm-*"))
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found["mounts"] = sorted(line for line in mounts if str(cluster) in line)
    found["processes"] = sorted(_commands(str(cluster)))
    return found


def _stable(output: str) -> list[str]:
    """Return the lines without comments, counters, empty tables and what the container engine changes meanwhile."""
    lines = (re.sub(r"\[\d+:\d+\]", "", line).strip() for line in output.splitlines())
    return sorted(line for line in lines if line and not EMPTY.match(line) and not ENGINE.search(line))


def _commands(directory: str) -> list[str]:
    """Return the command lines of processes that name the cluster's directory."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if directory in words:
            found.append(words)
    return found
