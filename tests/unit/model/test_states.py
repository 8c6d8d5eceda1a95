"""A state of an image, an admission and the facts of a gate are made only by the module that verified them."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
MAKERS = {
    "BuiltImage": {"development/build.py"},
    "TestedImage": {"development/test.py"},
    "Candidate": {"development/offer.py", "development/build.py"},
    "StoredImage": {"curation/store.py"},
    "EncryptedImage": {"curation/encrypt.py"},
    "ScannedImage": {"curation/scan.py"},
    "ReleasedImage": {"curation/sign.py"},
    "IntakeFacts": {"policy/reading.py"},
    "ReleaseFacts": {"policy/reading.py"},
    "DeployFacts": {"policy/reading.py"},
    "Admitted": {"policy/gate.py"},
}
"""State → the modules that make it. The second maker of a candidate reads the signed evidence of an earlier build."""


def test_verified_states_are_created_only_by_their_verifiers():
    """Another maker could pass an image to a step that it is not ready for."""
    found: dict[str, set[str]] = {name: set() for name in MAKERS}
    for directory in ("src", "flows", "tasks", "blocks"):
        for path in (ROOT / directory).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if not any(name in text for name in MAKERS):
                continue
            for node in ast.walk(ast.parse(text)):
                made = ast.unparse(node.func).partition("[")[0] if isinstance(node, ast.Call) else ""
                if made in MAKERS:
                    found[made].add(
                        str(path.relative_to(ROOT / "src/supply_chain")) if directory == "src" else str(path)
                    )

    assert found == MAKERS
