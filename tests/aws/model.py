"""Checks service responses against botocore's model of the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape

JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "timestamp": (int, float),
}


def problems(shape: Shape, value: Any, *, strict: bool, path: str = "") -> Iterator[str]:
    """List where a JSON value does not match the shape.

    `strict` also reports members that the model does not have; AWS may have newer members than the model.
    """
    match shape:
        case StructureShape():
            if not isinstance(value, dict):
                yield f"{path} is {value!r}, not a structure"
                return
            yield from (f"{path}.{name} is missing" for name in shape.required_members if name not in value)
            for name, member in value.items():
                if name in shape.members:
                    yield from problems(shape.members[name], member, strict=strict, path=f"{path}.{name}")
                elif strict:
                    yield f"{path}.{name} is unknown"
        case ListShape():
            if not isinstance(value, list):
                yield f"{path} is {value!r}, not a list"
                return
            for number, member in enumerate(value):
                yield from problems(shape.member, member, strict=strict, path=f"{path}[{number}]")
        case MapShape():
            if not isinstance(value, dict):
                yield f"{path} is {value!r}, not a map"
                return
            for name, member in value.items():
                yield from problems(shape.value, member, strict=strict, path=f"{path}[{name!r}]")
        case _:
            if not isinstance(value, JSON_TYPES[shape.type_name]):
                yield f"{path} is {value!r}, not a {shape.type_name}"
            elif isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
                yield f"{path} is {value!r}, not one of {', '.join(shape.enum)}"


def hold_to_the_model(client: Any, *, strict: bool) -> Any:
    """Return the client, with a check that the model has every response and every error code."""

    def check(operation_model: OperationModel, response_dict: dict[str, Any], **_: Any) -> None:
        content = json.loads(response_dict["body"] or b"{}")
        if response_dict["status_code"] < 300:
            found = list(problems(operation_model.output_shape, content, strict=strict))
            assert not found, f"{operation_model.name}: {'; '.join(found)}"
        else:
            code = content["__type"].rpartition("#")[2]
            declared = [shape.error_code for shape in operation_model.error_shapes]
            assert code in declared, f"{operation_model.name} has no error {code}, only {', '.join(declared)}"

    client.meta.events.register(f"before-parse.{client.meta.service_model.service_id.hyphenize()}", check)
    return client
