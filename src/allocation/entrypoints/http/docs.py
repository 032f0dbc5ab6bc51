"""The documentation page: the OpenAPI document for people. It loads nothing from other hosts."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from allocation.entrypoints.http.call import JSON, Call, Reply
from allocation.entrypoints.http.docs_fields import Row, body_rows, example_of, parameter_rows, parameters_of
from allocation.entrypoints.http.openapi import openapi_document
from allocation.entrypoints.http.problems import KINDS
from allocation.entrypoints.http.routes import Given, Route, Routes

Json = dict[str, Any]


def docs_routes(routes: Sequence[Route]) -> Routes:
    """The route of the page about all routes, itself included, and the routes that redirect to it."""
    own = Routes("Documentation")

    @own.get("/", gives={302: Given("Redirect to the documentation", headers=["Location"])})
    def lead_to_docs(call: Call) -> Reply:
        """Redirects to the documentation."""
        return Reply(302, headers=(("Location", "/docs"),))

    @own.get("/docs/", gives={302: Given("Redirect to the documentation", headers=["Location"])})
    def lead_back_to_docs(call: Call) -> Reply:
        """Redirects to the documentation, for a path with a slash too many."""
        return Reply(302, headers=(("Location", "/docs"),))

    @own.get("/docs", gives={200: Given("The page", type=str)})
    def docs(call: Call) -> Reply:
        """This page."""
        page, policy = rendered()
        headers = (("Cache-Control", "no-cache"), ("Content-Security-Policy", policy))
        return Reply(200, page, headers, "text/html; charset=utf-8")

    @cache
    def rendered() -> tuple[bytes, str]:
        return page_of(openapi_document([*routes, *own]))

    return own


def page_of(document: Json) -> tuple[bytes, str]:
    """The page, and a Content-Security-Policy that allows only what is on the page to run."""
    style, script = _asset("docs.css"), _asset("docs.js")
    operations = [
        (tag["name"], [o for o in _operations(document) if tag["name"] in o["tags"]]) for tag in document["tags"]
    ]
    page = _asset("docs.html").format(
        title=escape(document["info"]["title"]),
        version=escape(document["info"]["version"]),
        about="".join(f"<p>{_prose(part)}</p>" for part in document["info"]["description"].split("\n\n")),
        style=style,
        script=script,
        contents="".join(_contents(tag, found) for tag, found in operations),
        operations="".join(_section(document, tag, found) for tag, found in operations),
        problems="".join(_problem(kind) for kind in KINDS.values()),
    )
    policy = (
        f"default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    return page.encode(), policy


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _operations(document: Json) -> Iterable[Json]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield {**operation, "path": path, "method": method.upper()}


def _contents(tag: str, operations: Sequence[Json]) -> str:
    links = "".join(
        f'<li><a href="#{o["operationId"]}"><b class="{o["method"]}">{o["method"]}</b> {escape(o["path"])}</a></li>'
        for o in operations
    )
    return f"<h3>{escape(tag)}</h3><ul>{links}</ul>"


def _section(document: Json, tag: str, operations: Sequence[Json]) -> str:
    return f"<h2>{escape(tag)}</h2>" + "".join(_operation(document, operation) for operation in operations)


def _operation(document: Json, operation: Json) -> str:
    answers = "".join(_answer(status, given) for status, given in operation["responses"].items())
    return f"""
<article id="{operation["operationId"]}">
<h4><b class="{operation["method"]}">{operation["method"]}</b> <code>{escape(operation["path"])}</code></h4>
<p><strong>{_prose(operation["summary"])}.</strong> {_prose(operation.get("description", ""))}</p>
{_table(parameter_rows(document, operation))}
{_table(body_rows(document, operation))}
{_form(document, operation)}
<table><tbody>{answers}</tbody></table>
</article>"""


def _answer(status: str, given: Json) -> str:
    examples = [
        example
        for content in given.get("content", {}).values()
        for example in ([content["example"]] if "example" in content else [])
        + [e["value"] for e in content.get("examples", {}).values()]
    ]
    shown = "".join(f"<pre>{escape(json.dumps(example, indent=1))}</pre>" for example in examples)
    meaning = f"<details><summary>{_prose(given['description'])}</summary>{shown}</details>" if shown else ""
    return f'<tr><td class="s{status[0]}">{status}</td><td>{meaning or _prose(given["description"])}</td></tr>'


def _table(rows: Iterable[Row]) -> str:
    """A table of names and their meanings; empty text if there are none."""
    told = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{_prose(text)}</td></tr>" for name, text in rows)
    return f'<table class="fields"><tbody>{told}</tbody></table>' if told else ""


def _form(document: Json, operation: Json) -> str:
    """A form to try the operation with; docs.js sends it."""
    fields = []
    for meant in parameters_of(document, operation):
        where = f"{meant['in']}:{escape(meant['name'])}"
        hint = escape(meant.get("description", ""))
        fields.append(f'<label>{escape(meant["name"])}<input name="{where}" placeholder="{hint}"></label>')
    if "requestBody" in operation:
        example = example_of(document, operation["requestBody"]["content"][JSON]["schema"])
        fields.append(f'<label>body<textarea name="body">{escape(json.dumps(example, indent=1))}</textarea></label>')
    return (
        f'<details class="try"><summary>Try it</summary>'
        f'<form data-method="{operation["method"]}" data-path="{escape(operation["path"])}">{"".join(fields)}'
        f"<button>Send</button><output></output></form></details>"
    )


def _problem(kind: Any) -> str:
    return (
        f'<tr id="problem-{kind.slug}"><td class="s{kind.status // 100}">{kind.status}</td>'
        f"<td><strong>{escape(kind.title)}</strong><br>{_prose(kind.advice)}</td></tr>"
    )


def _prose(text: str) -> str:
    """Text with `code` in it."""
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
