"""From bytes to the values that a command is made of, or a sentence about what is wrong.

The body is read by Python's own JSON scanner with hooks (2 to 3 microseconds for an order line), because none of the
fast parsers notices a name that appears twice. What the scanner accepts beyond JSON according to RFC 8259 and I-JSON
(RFC 7493) is refused here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from allocation.domain.commands import ID_PATTERN, is_id
from allocation.domain.errors import MAX_QUANTITY
from allocation.entrypoints.http.errors import BadHeader, Fault, Invalid, Malformed, NotJson, TooLarge

DEEPEST_NESTING = 100
LONGEST_NUMBER = 309  # digits, as many as the largest double has
MOST_FAULTS = 50
READ_ON_FACTOR = 8  # times the limit: so much of a body that is too long is still read, so that it can be answered

Model = TypeVar("Model", bound=BaseModel)

ID_SCHEMA_PATTERN = ID_PATTERN.replace(r"\Z", "$")  # how JSON Schema (ECMA-262) and pydantic's engine write the end
ID_MEANING = "must be 1 to 255 printable ASCII characters without space or slash"


class Body(BaseModel):
    """A body or query that may have exactly these fields, of exactly these types."""

    model_config = ConfigDict(strict=True, extra="forbid")


def _full_date(value: object) -> date | None:
    """RFC 3339 `full-date`, or null."""
    if value is None:
        return None
    if not isinstance(value, str) or not _FULL_DATE.match(value):
        raise ValueError("must be a day as in 2030-12-31, or null")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("is not a day that exists") from None


_FULL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")

ID_WORDS = "1 to 255 printable ASCII characters, no space, no slash"
Id = Annotated[
    str,
    StringConstraints(pattern=ID_SCHEMA_PATTERN),
    Field(description=ID_WORDS),
]
Words = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\u0000-\u001f\u007f]+$"),
    Field(description="A line of text for people to read"),
]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY, description="Pieces")]
Eta = Annotated[
    date | None,
    BeforeValidator(_full_date),
    Field(description="The day the batch arrives; null if it is in stock already"),
]


# --- the body as bytes --------------------------------------------------------------------------------------------


def read_body(environ: Mapping[str, Any], limit_bytes: int) -> bytes:
    """The whole body. Raises `NotJson`, `TooLarge` (whether chunked or not), `Malformed` if it ends early."""
    if environ.get("CONTENT_TYPE") != "application/json":
        _require_json(environ.get("CONTENT_TYPE", ""))
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() not in ("identity", ""):
        raise NotJson("The body must be sent uncompressed, without Content-Encoding")
    stream = environ["wsgi.input"]
    if declared := environ.get("CONTENT_LENGTH"):
        if not (declared.isascii() and declared.isdigit()):
            raise BadHeader("Content-Length", "Content-Length must be a number of bytes")
        length = int(declared)
        if length > limit_bytes:
            if "HTTP_EXPECT" not in environ:
                _read_on(stream, min(length, limit_bytes * READ_ON_FACTOR))
            raise TooLarge(limit_bytes)
        raw: bytes = stream.read(length)
        if len(raw) < length:
            raise Malformed(f"The body ended after {len(raw)} of {length} bytes")
        return raw
    if not environ.get("wsgi.input_terminated"):
        return b""
    raw = stream.read(limit_bytes + 1)
    if len(raw) > limit_bytes:
        _read_on(stream, limit_bytes * READ_ON_FACTOR)
        raise TooLarge(limit_bytes)
    return raw


def _read_on(stream: Any, at_most: int) -> None:
    """Read the rest from the connection: a client that is cut off while it sends may never see the answer."""
    while at_most > 0 and (piece := stream.read(min(at_most, 65_536))):
        at_most -= len(piece)


def _require_json(content_type: str) -> None:
    kind, _, parameters = content_type.lower().partition(";")
    kind = kind.strip()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise NotJson("Send the body as JSON, with Content-Type: application/json")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
            raise NotJson("JSON is sent as UTF-8 (RFC 8259, section 8.1)")


# --- JSON ---------------------------------------------------------------------------------------------------------


class _Unreadable(ValueError):
    """Raised by a hook of the scanner. Hooks do not know the place."""

    def __init__(self, detail: str, token: str) -> None:
        super().__init__(detail)
        self.token = token


def read_json(raw: bytes) -> Any:
    """The value that the bytes stand for. Raises `Malformed`."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as wrong:
        raise Malformed("The body is not UTF-8", wrong.start) from None
    if raw.count(b"[") + raw.count(b"{") > DEEPEST_NESTING:
        _require_shallow(text)
    try:
        return _SCANNER.decode(text)
    except json.JSONDecodeError as wrong:
        raise Malformed(_what_is_wrong(wrong, text), wrong.pos, text) from None
    except _Unreadable as wrong:
        raise Malformed(str(wrong), _place_of(wrong.token, text), text) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Malformed(f"The name {shown(name)} appears twice in one object")
            seen.add(name)
    return found


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise _Unreadable(f"A number has {len(digits)} digits; no number here is that large", digits)
    return int(digits)


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number) or len(text) > 2 * LONGEST_NUMBER:
        raise _Unreadable("A number is too large or too long", text)
    return number


def _constant(name: str) -> NoReturn:
    raise _Unreadable(f"{name} is not JSON", name)


_SCANNER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
# A string that never ends matches up to the end of the text; otherwise each quote in it would be tried again, which
# takes quadratic time.
_STRING_OR_OTHER = re.compile(r'"(?:[^"\\]|\\.)*+"?|[^"\s,:\[\]{}]+', re.DOTALL)
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _place_of(token: str, text: str) -> int | None:
    return next((found.start() for found in _STRING_OR_OTHER.finditer(text) if found[0] == token), None)


def _require_shallow(text: str) -> None:
    """The scanner calls itself once for each level, and nothing guarantees how many a thread's stack can hold."""
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth > DEEPEST_NESTING:
                raise Malformed(f"Nested deeper than {DEEPEST_NESTING} levels", found.start(), text)
        elif found[0] in "]}":
            depth -= 1


def _what_is_wrong(wrong: json.JSONDecodeError, text: str) -> str:
    if not text.strip():
        return "The body is empty; send a JSON object"
    if text.startswith("\ufeff"):
        return "The body begins with a byte order mark; send it without one (RFC 8259, section 8.1)"
    if "\0" in text[:4]:
        return "The body looks like UTF-16 or UTF-32; send it as UTF-8"
    reason = wrong.msg.removesuffix(" at").removesuffix(" starting")  # Python would go on with the place
    return f"The body is not JSON: {reason[:1].lower()}{reason[1:]}"


def shown(text: str) -> str:
    """Foreign text, shortened and made safe to send back."""
    short = text if len(text) <= 60 else f"{text[:60]}..."
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in short)


# --- models -------------------------------------------------------------------------------------------------------


def parse_body(model: type[Model], environ: Mapping[str, Any], limit_bytes: int) -> Model:
    """The body as an instance of the model. Raises `EdgeError`."""
    return validated(model, read_json(read_body(environ, limit_bytes)))


def validated(model: type[Model], value: object) -> Model:
    """A JSON value as an instance of the model. Raises `Invalid`."""
    try:
        return model.model_validate(value)
    except ValidationError as wrong:
        raise Invalid(_faults(wrong, lambda loc, detail: Fault(detail, pointer=_pointer(_path(loc, value))))) from None


def parse_query(model: type[Model], query: str) -> Model:
    """The query string as an instance of the model. Raises `Invalid`, also if a parameter is unknown or given twice."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=20)
    except ValueError:
        raise Invalid([Fault("must be name=value pairs, joined by &", parameter=shown(query))]) from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise Invalid([Fault("may be given only once", parameter=shown(twice))])  # its value may be a secret
    try:
        return model.model_validate(parameters)
    except ValidationError as wrong:
        raise Invalid(_faults(wrong, lambda loc, detail: Fault(detail, parameter=shown(str(loc[0]))))) from None


def require_ids(parameters: Mapping[str, str]) -> None:
    """Check the ids in the path. Raises `Invalid`."""
    for name, value in parameters.items():
        if not is_id(value):
            raise Invalid([Fault(ID_MEANING, parameter=name)])


def _faults(wrong: ValidationError, fault: Any) -> list[Fault]:
    errors = wrong.errors(include_url=False, include_input=False)
    return [fault(error["loc"], _sentence(dict(error))) for error in errors[:MOST_FAULTS]]


def _sentence(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here"
        case "invalid_key":
            return "has a name that is not text"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a JSON object"
        case "string_pattern_mismatch":
            return ID_MEANING if context["pattern"] == ID_SCHEMA_PATTERN else f"must match {context['pattern']}"
        case "string_unicode":
            return "must be text, without lone surrogates"
        case "string_type":
            return "must be text"
        case "bool_type":
            return "must be true or false"
        case "list_type":
            return "must be a list"
        case "too_short" | "string_too_short":
            return f"must have at least {_pieces(error, context['min_length'])}"
        case "too_long" | "string_too_long":
            return f"must have at most {_pieces(error, context['max_length'])}"
        case "union_tag_not_found":
            return f"must have the name {context['discriminator']}"
        case "union_tag_invalid":
            return f"must have as {context['discriminator']} one of {context['expected_tags']}"
        case "int_type" | "int_from_float":
            return "must be a whole number, as a JSON number without a fraction"
        case "greater_than_equal":
            return f"must be {context['ge']} or more"
        case "less_than_equal":
            return f"must be {context['le']} or less"
        case "literal_error":
            return f"must be {context['expected']}"
        case "value_error":
            return str(context["error"])
        case _:
            message = str(error["msg"])
            return message[:1].lower() + message[1:]


def _pieces(error: Mapping[str, Any], number: int) -> str:
    piece = "character" if error["type"].startswith("string_") else "item"
    return f"{number} {piece}" if number == 1 else f"{number} {piece}s"


def _path(location: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:
    """The location without names that the body does not have: in a union, pydantic adds the name of the kind."""
    path: list[int | str] = []
    for part in location[:-1]:
        if isinstance(value, dict) and part not in value:
            continue
        path.append(part)
        value = value[part]
    return (*path, *location[-1:])


def _pointer(location: tuple[int | str, ...]) -> str:
    return "#" + "".join("/" + shown(str(part)).replace("~", "~0").replace("/", "~1") for part in location)
