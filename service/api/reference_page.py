"""The reference of the API as one page, made from its own description.

The framework's pages load their program from elsewhere; this one needs nothing.
"""

import html
import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


@router.get("/docs/api")
def reference(request: Request) -> HTMLResponse:
    """Show the reference."""
    document = request.app.openapi()
    parts = [
        f"<h1>{html.escape(document['info']['title'])}</h1>",
        f"<p>{html.escape(document['info'].get('description', ''))}</p>",
        "<p>The same for machines: <a href='/openapi.json'>openapi.json</a></p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(method, path, operation))
    parts.append("<h1>Bodies</h1>")
    for name, schema in document["components"]["schemas"].items():
        text = html.escape(json.dumps(schema, indent=1, ensure_ascii=False))
        parts.append(
            f"<details id='{html.escape(name)}'><summary>{html.escape(name)}</summary>"
            f"<pre>{text}</pre></details>"
        )
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>API</title>"
        "<meta name=viewport content='width=device-width'>"
        "<style>body{max-width:60rem;margin:2rem auto;font:1rem/1.5 system-ui;"
        "padding:0 1rem}pre{overflow:auto}</style>" + "".join(parts) + "</html>",
        headers={
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"
        },
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{html.escape(item['name'])}</code> ({item['in']}) "
        f"{html.escape(item.get('description', ''))}</li>"
        for item in operation.get("parameters", [])
    )
    contents = operation.get("requestBody", {}).get("content", {})
    bodies = "".join(
        f"<li>{html.escape(kind)} {_link(content.get('schema', {}))}</li>"
        for kind, content in contents.items()
    )
    answers = "".join(
        f"<li>{status} {html.escape(answer['description'])} {_first_link(answer)}</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<h2>{method.upper()} {html.escape(path)}</h2>"
        f"<p>{html.escape(operation.get('description', ''))}</p>"
        f"<ul>{parameters}</ul>"
        + (f"<p>Body</p><ul>{bodies}</ul>" if bodies else "")
        + f"<p>Answers</p><ul>{answers}</ul>"
    )


def _first_link(answer: dict[str, Any]) -> str:
    for content in answer.get("content", {}).values():
        return _link(content.get("schema", {}))
    return ""


def _link(schema: dict[str, Any]) -> str:
    name = html.escape(str(schema.get("$ref", "")).rpartition("/")[2])
    return f"<a href='#{name}'>{name}</a>" if name else ""
