"""Parameters and fields of the OpenAPI document in words, and an example body to start from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]
Row = tuple[str, str]
"""A name, and what it means: text with `code` in it."""

EVERYWHERE = frozenset({"Idempotency-Key", "X-Correlation-Id"})
"""Headers that the page explains at its top."""

_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "date": "a day as in `2031-05-01`",
}


def parameters_of(document: Json, operation: Json) -> Iterator[Json]:
    """The parameters of an operation, with references resolved."""
    for parameter in operation["parameters"]:
        yield resolved(document, parameter)


def parameter_rows(document: Json, operation: Json) -> Iterator[Row]:
    """The parameters of an operation, without those that apply everywhere."""
    for parameter in parameters_of(document, operation):
        if parameter["name"] not in EVERYWHERE:
            field = {**parameter["schema"], "description": parameter["description"]}
            yield parameter["name"], f"In the {parameter['in']}: {_meaning(field, is_required=True)}"


def body_rows(document: Json, operation: Json) -> Iterator[Row]:
    """The fields of the body, and one level of the fields within them; for a body in several forms, the forms."""
    contents = operation.get("requestBody", {"content": {}})["content"]
    if len(contents) > 1:
        for media_type, content in contents.items():
            yield media_type, _meaning(content["schema"], is_required=True)
        return
    for content in contents.values():
        schema = resolved(document, content["schema"])
        for name, field in schema["properties"].items():
            yield name, _meaning(field, name in schema.get("required", ()))
            yield from _below(document, name, field)


def example_of(document: Json, schema: Json) -> Any:
    """What a request may look like: the schema's example, or else its required fields."""
    schema = resolved(document, schema)
    if "example" in schema:
        return _in_order(schema["example"], schema.get("properties", {}))
    if "examples" in schema:
        return schema["examples"][0]
    if schema.get("type") == "array":
        return [example_of(document, schema["items"])]
    if schema.get("type") == "object":
        return {name: example_of(document, schema["properties"][name]) for name in schema.get("required", ())}
    return {"integer": schema.get("minimum", 0), "string": "..."}.get(schema.get("type", ""))


def resolved(document: Json, part: Json) -> Json:
    """A part of the document, or what it refers to."""
    if "$ref" not in part:
        return part
    _, kind, name = part["$ref"].rsplit("/", 2)
    found: Json = document["components"][kind][name]
    return found


def _in_order(example: Any, properties: Mapping[str, Any]) -> Any:
    """The fields of an object in the order in which they are declared."""
    return {name: example[name] for name in properties if name in example} if properties else example


def _below(document: Json, name: str, field: Json) -> Iterator[Row]:
    """The fields of the objects that a field holds; for objects of several types, the types."""
    for kind in field.get("anyOf", [field]):
        held, place = (kind["items"], f"{name}[]") if kind.get("type") == "array" else (kind, name)
        for part in held.get("oneOf", ()):
            yield place, _variant(resolved(document, part))
        if "$ref" in held:
            schema = resolved(document, held)
            for inner, below in schema["properties"].items():
                yield f"{place}.{inner}", _meaning(below, inner in schema.get("required", ()))


def _variant(schema: Json) -> str:
    fields = dict(schema["properties"])
    names = ", ".join(f"`{name}`" for name in fields if name != "type")
    return f"With type `{fields['type']['const']}`: {names}. {schema['description']}"


def _meaning(field: Json, is_required: bool) -> str:
    words = " or ".join(_kind(kind) for kind in field.get("anyOf", [field]))
    if "default" in field:
        default = field["default"]
        words += f"; `{default if isinstance(default, str) else json.dumps(default)}` if absent"
    elif not is_required:
        words += "; may be absent"
    return f"{words}. {field['description']}." if "description" in field else f"{words}."


def _kind(schema: Json) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema or "oneOf" in schema:
        return "an object"
    if schema.get("type") == "array":
        return f"a list{_range(schema, 'minItems', 'maxItems', 'of')}, each {_kind(schema['items'])}"
    kind: str = schema["type"]
    return _KINDS.get(schema.get("format", kind), _KINDS.get(kind, kind)) + _range(schema, "minimum", "maximum", "from")


def _range(schema: Json, least: str, most: str, word: str) -> str:
    if least in schema and most in schema:
        return f" {word} {schema[least]:,} to {schema[most]:,}"
    return f" of {schema[least]:,} or more" if least in schema else ""
