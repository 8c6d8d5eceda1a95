"""Digests in the files of an environment's repository."""

from __future__ import annotations

import pytest
import yaml

from supply_chain.errors import DeclarationInvalid
from supply_chain.execution.delivery.images import parse_image_name, read_digests, set_digest

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
IMAGE = "registry:5000/curated/hello"
KUSTOMIZATION = f"""# the shop
resources: [deployment.yaml]
images:
  - name: other
    newName: registry:5000/curated/other
    digest: {OLD}
  - name: hello   # the front end
    newName: {IMAGE}
    digest: "{OLD}"  # set by the chain
"""
VALUES = f"""replicas: 2
image:
  repository: {IMAGE}
  tag: ""
  digest: {OLD}
sidecar: {{image: {{registry: "registry:5000", repository: curated/other, digest: {OLD}}}}}
"""
MANIFEST = f"""kind: Service
---
kind: Deployment
spec:
  template:
    spec:
      containers:
      - name: web
        image: '{IMAGE}:1@{OLD}'  # hello
      - {{name: other, image: "registry:5000/curated/other:2"}}
      initContainers:
      - image: {IMAGE}
        name: init
"""


@pytest.mark.parametrize(
    ("kind", "text", "was", "becomes"),
    [
        ("kustomize", KUSTOMIZATION, f'digest: "{OLD}"  # set', f"digest: {NEW}  # set"),
        ("helm", VALUES, f'  tag: ""\n  digest: {OLD}', f'  tag: ""\n  digest: {NEW}'),
        ("kustomize", f"images:\n- newName: {IMAGE} # x\n  name: hello\n", "# x\n", f"# x\n  digest: {NEW}\n"),
        ("kustomize", f"images:\n- name: {IMAGE}", IMAGE, f"{IMAGE}\n  digest: {NEW}"),
        ("kustomize", f"images: [{{name: x, newName: {IMAGE}}}]\n", "}]", f", digest: '{NEW}'}}]"),
        ("helm", f"a:\n  repository: {IMAGE}\n  digest:\n", "digest:\n", f"digest: {NEW}\n"),
        ("helm", f"a:\n  repository: {IMAGE}\n  digest: ''\n", "''", NEW),
        ("helm", "a:\n  registry: registry:5000\n  repository: curated/hello\nb: 1\n", "hello\n",
         f"hello\n  digest: {NEW}\n"),
    ],
)  # fmt: skip
def test_set_digest_changes_only_the_digest(kind, text, was, becomes):
    """Comments, order and quoting of everything else stay."""
    changed = set_digest(text.encode(), kind, IMAGE, NEW, "file").decode()

    assert changed == text.replace(was, becomes) and changed != text
    assert read_digests(changed.encode(), kind, IMAGE, "file") == (NEW,)


def test_set_digest_changes_every_container_of_manifest():
    """The tag is dropped: with a digest, it would only mislead."""
    changed = set_digest(MANIFEST.encode(), "manifest", IMAGE, NEW, "file").decode()

    wanted = MANIFEST.replace(f"'{IMAGE}:1@{OLD}'", f"{IMAGE}@{NEW}").replace(
        f"image: {IMAGE}\n", f"image: {IMAGE}@{NEW}\n"
    )
    assert changed == wanted and list(yaml.safe_load_all(changed))


def test_set_digest_is_idempotent():
    """The second promotion of an image makes no commit."""
    once = set_digest(KUSTOMIZATION.encode(), "kustomize", IMAGE, NEW, "file")

    assert set_digest(once, "kustomize", IMAGE, NEW, "file") == once


def test_read_digests_returns_each_once_and_empty_without_one():
    """A file in which two places differ has drifted."""
    assert read_digests(KUSTOMIZATION.encode(), "kustomize", IMAGE, "file") == (OLD,)
    assert read_digests(MANIFEST.encode(), "manifest", IMAGE, "file") == (OLD, "")


def test_shared_part_is_changed_once():
    """An anchor and its aliases are one place in the text."""
    text = f"a: &a\n  repository: {IMAGE}\n  digest: {OLD}\nb: *a\nc:\n- *a\n"

    assert set_digest(text.encode(), "helm", IMAGE, NEW, "file").decode() == text.replace(OLD, NEW)


@pytest.mark.parametrize("kind", ["kustomize", "helm", "manifest"])
@pytest.mark.parametrize("content", [b"", b"a: 1\n", b"- a\n", b"images: {a: 1}\ncontainers: [1]\n", b"---\n---\n"])
def test_file_without_image_is_invalid_with_remedy(kind, content):
    """Another file, or another registry: the chain adds no image by itself."""
    with pytest.raises(DeclarationInvalid, match=f"does not name the image {IMAGE}"):
        read_digests(content, kind, IMAGE, "file")


@pytest.mark.parametrize("content", [b"a: [", b"\xff", b"a: !!python/x 1: 2: 3", b"x" * (1024**2 + 1), b"[" * 5000])
def test_unreadable_file_is_invalid(content):
    """It is a mistake of whoever committed it, and no crash."""
    with pytest.raises(DeclarationInvalid, match="file"):
        read_digests(content, "helm", IMAGE, "file")


def test_multi_line_image_name_is_refused():
    """The digest would end up inside of the name."""
    with pytest.raises(DeclarationInvalid, match="by hand"):
        set_digest(f"a:\n  repository: >-\n    {IMAGE}\n\n\n  x: |\n    1\n".encode(), "helm", IMAGE, NEW, "file")


@pytest.mark.parametrize("reference", [IMAGE, f"{IMAGE}:1", f"{IMAGE}@{OLD}", f"{IMAGE}:1@{OLD}"])
def test_image_name_keeps_port_of_registry(reference):
    assert parse_image_name(reference) == IMAGE
