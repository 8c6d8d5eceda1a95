"""Make the site draw its Mermaid diagrams without a request to another host; mkdocs calls this as a hook.

The theme's bundle loads Mermaid from another host. Here, the script becomes a file of the site: its npm package is
downloaded once into `build/`, pinned by version and checksum, and the bundle is pointed to it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from pathlib import Path

import httpx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

VERSION = "11.17.2"
# pragma: allowlist nextline secret
INTEGRITY = "V6K3C8EBdEsPFZXSKMJe6ppQOENxuHARr9GvHX4hh47lAbhMRD9qf4oEK7LoaRQxULMa80/qt5gHO73aCleBBg=="
"""SHA-512 of the package, as `npm view mermaid@VERSION dist.integrity` prints it after `sha512-`."""

PACKAGES = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
BUILD = Path(__file__).parents[1] / "build"
SCRIPT = "assets/javascripts/mermaid.min.js"

SOURCES = {
    '"https://unpkg.com/mermaid@11/dist/mermaid.min.js"': f'new URL("{SCRIPT}",__md_scope).href',
    '"https://unpkg.com/resize-observer-polyfill"': '"data:,"',  # an empty script; every present browser has the class
}
"""Each address in the theme's bundle, and the expression that replaces it; the theme sets `__md_scope` to the site."""


def on_post_build(config: MkDocsConfig) -> None:
    """Write Mermaid's script into the built site, and point the theme's bundle to it."""
    directory = Path(config.site_dir)
    (bundle,) = directory.glob("assets/javascripts/bundle.*.min.js")
    bundle.write_text(replace_sources(bundle.read_text(encoding="utf-8")), encoding="utf-8")
    (directory / SCRIPT).write_bytes(read_script())


def replace_sources(bundle: str) -> str:
    """Return the theme's bundle with local addresses; raise `PluginError` if it has not exactly the known ones."""
    for remote, local in SOURCES.items():
        if bundle.count(remote) != 1:
            raise PluginError(f"the theme's bundle does not contain {remote} once. Change SOURCES in {__file__}.")
        bundle = bundle.replace(remote, local)
    return bundle


def read_script() -> bytes:
    """Return Mermaid's script from its package, which is downloaded if `build/` does not have it."""
    path = BUILD / f"mermaid-{VERSION}.tgz"
    if path.exists():
        return extract_script(path.read_bytes())
    package = download(f"{PACKAGES}/mermaid/-/mermaid-{VERSION}.tgz")
    script = extract_script(package)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(package)
    return script


def download(url: str) -> bytes:
    """Return the content of a URL; raise `PluginError` if it cannot be downloaded."""
    try:
        return httpx.get(url, follow_redirects=True, timeout=60).raise_for_status().content
    except httpx.HTTPError as error:
        raise PluginError(f"{url}: {error}. Set NPM_CONFIG_REGISTRY to a mirror if there is one.") from error


def extract_script(package: bytes) -> bytes:
    """Return the script in an npm package; raise `PluginError` if it is not the pinned package."""
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != INTEGRITY:
        raise PluginError(f"mermaid {VERSION} has another checksum than the pinned one. Remove {BUILD}/mermaid-*.tgz.")
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        member = archive.extractfile("package/dist/mermaid.min.js")
        assert member is not None
        return member.read()
