"""The digest of an image in a file of an environment's repository. Pure.

Only the text of the digest is replaced, so that comments and layout stay as people wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from supply_chain.errors import DeclarationInvalid
from supply_chain.execution.delivery.settings import FileKind
from supply_chain.execution.kubernetes.cluster import CONTAINERS, Document
from supply_chain.model.image import Digest
from supply_chain.text import sanitize_text

MOST_BYTES = 1024**2
"""Maximum size of a file; yaml.compose reads it as a whole."""
MOST_NODES = 50_000

Change = tuple[int, int, str]
"""The beginning and end of a part of the text, and what replaces it."""
DigestPlace = tuple[Digest, Change]
"""The digest that a file names for an image, empty if it names none, and the change that replaces it."""


class _Loader(yaml.SafeLoader):
    """A loader that composes nodes with their places in the text, and limits how many."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node; raise `yaml.YAMLError` if there are too many."""
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise yaml.YAMLError(f"it has more than {MOST_NODES} values")
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class ImageFile:
    """A file of the repository that names an image. `image` is its name with the registry."""

    path: str
    kind: FileKind
    image: str

    def read_digests(self, content: bytes) -> tuple[Digest, ...]:
        """Return the digests in the file, as `read_digests`."""
        return read_digests(content, self.kind, self.image, self.path)

    def set_digest(self, content: bytes, digest: Digest) -> bytes:
        """Return the file with another digest, as `set_digest`."""
        return set_digest(content, self.kind, self.image, digest, self.path)

    def describe(self, digest: Digest) -> str:
        """Return the line of a promotion's message that says what it deploys."""
        return f"Image: {self.image}@{digest}"


def read_digests(content: bytes, kind: FileKind, image: str, path: str) -> tuple[Digest, ...]:
    """Return the digests that a file names for an image, each once, the empty text where it names none.

    `image` is the name with its registry, and without tag or digest; `path` is for errors. Raises `DeclarationInvalid`
    if the file is no YAML or does not name the image.
    """
    return tuple(dict.fromkeys(digest for digest, _ in _find(_decode(content, path), kind, image, path)))


def set_digest(content: bytes, kind: FileKind, image: str, digest: Digest, path: str) -> bytes:
    """Return the file with another digest of an image at each place that names the image.

    Raises `DeclarationInvalid` as `read_digests`, and if a place cannot be changed without changing more.
    """
    text = _decode(content, path)
    for start, end, replacement in sorted((change for _, change in _find(text, kind, image, path)), reverse=True):
        text = text[:start] + replacement.format(digest=digest) + text[end:]
    changed = text.encode()
    if read_digests(changed, kind, image, path) != (digest,):
        raise DeclarationInvalid(
            f"The digest of {image} in {path} cannot be changed without changing more of the file.\n"
            "Write the digest once by hand, as a plain value on a line of its own."
        )
    return changed


def _decode(content: bytes, path: str) -> str:
    if len(content) > MOST_BYTES:
        raise DeclarationInvalid(f"{path} has more than {MOST_BYTES} bytes.\nSplit it.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DeclarationInvalid(f"{path} is not UTF-8: {error}\nCorrect it.") from error


def _find(text: str, kind: FileKind, image: str, path: str) -> list[DigestPlace]:
    try:
        roots = [root for root in yaml.compose_all(text, Loader=_Loader) if root is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise DeclarationInvalid(f"{path} is not valid YAML: {sanitize_text(error)}\nCorrect it.") from error
    find, hint = FINDERS[kind]
    places = list(dict.fromkeys(each for root in roots for each in find(root, image, text)))
    if not places:
        raise DeclarationInvalid(f"{path} does not name the image {image}.\n{hint.format(image=image)}")
    return places


def _in_kustomization(root: yaml.Node, image: str, text: str) -> Iterator[DigestPlace]:
    """Yield the entries of `images` that give the image its name, or are about it and give it no other."""
    entries = _mapping(root).get("images")
    for entry in entries.value if isinstance(entries, yaml.SequenceNode) else ():
        keys = _mapping(entry)
        name = keys.get("newName") or keys.get("name")
        if _text(name) == image:
            assert name
            yield _next_to(entry, name, text)


def _in_values(root: yaml.Node, image: str, text: str) -> Iterator[DigestPlace]:
    """Yield the objects with `repository`, and perhaps `registry` before it, that name the image."""
    for node in _walk(root):
        keys = _mapping(node)
        repository, registry = keys.get("repository"), _text(keys.get("registry"))
        if repository is not None and f"{registry}/{_text(repository)}".lstrip("/") == image:
            yield _next_to(node, repository, text)


def _in_manifest(root: yaml.Node, image: str, text: str) -> Iterator[DigestPlace]:
    """Yield the containers that run the image."""
    for node in _walk(root):
        keys = _mapping(node)
        for containers in (keys.get(name) for name in CONTAINERS):
            for container in containers.value if isinstance(containers, yaml.SequenceNode) else ():
                value = _mapping(container).get("image")
                name, _, digest = _text(value).partition("@")
                if value is not None and parse_image_name(name) == image:
                    yield digest, (*_span(value), f"{image}@{{digest}}")


def list_deployed_digests(deployment: Document, image: str) -> tuple[Digest, ...]:
    """Return the digests at which the pods of a Deployment run an image, each once; empty texts without a digest."""
    pod = deployment["spec"]["template"]["spec"]
    references = (each.get("image", "") for name in CONTAINERS for each in pod.get(name) or ())
    return tuple(dict.fromkeys(each.partition("@")[2] for each in references if parse_image_name(each) == image))


def parse_image_name(reference: str) -> str:
    """Return the name of an image, with its registry, of a reference with or without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _next_to(node: yaml.Node, name: yaml.Node, text: str) -> DigestPlace:
    """Return the digest in an object, or a new line for it after that of the image's name."""
    digest = _mapping(node).get("digest")
    if digest is not None:
        start, end = _span(digest)
        lead = " " if start == end and text[start - 1 : start] == ":" else ""  # `digest:` without a value
        return _text(digest), (start, end, f"{lead}{{digest}}")
    if getattr(node, "flow_style", False):
        return "", (name.end_mark.index, name.end_mark.index, ", digest: '{digest}'")
    line = text.find("\n", name.end_mark.index)
    at = len(text) if line < 0 else line
    column = next(key.start_mark.column for key, value in node.value if value is name)
    return "", (at, at, "\n" + " " * column + "digest: {digest}")


def _span(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":null") else ""


def _walk(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield a node and all below it, each once: what an anchor names is below each of its aliases."""
    waiting, visited = [node], set[int]()
    while waiting:
        at = waiting.pop()
        if id(at) in visited:
            continue
        visited.add(id(at))
        yield at
        if isinstance(at, yaml.MappingNode):
            waiting += [value for _, value in at.value]
        elif isinstance(at, yaml.SequenceNode):
            waiting += at.value


FINDERS: dict[FileKind, tuple[Callable[[yaml.Node, str, str], Iterator[DigestPlace]], str]] = {
    "kustomize": (_in_kustomization, "Add an entry with `newName: {image}` under `images`."),
    "helm": (_in_values, "Add `repository: {image}` to the image's values, from which the chart reads `digest` too."),
    "manifest": (_in_manifest, "Write `image: {image}` in a container."),
}
"""How each kind of file names an image, and what to write if it does not."""
