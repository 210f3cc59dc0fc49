"""What the description of the API says of errors, headers and bodies of uploads."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.error_handlers import PROBLEM_JSON
from service.contract.errors import (
    BadRequest,
    FieldError,
    Forbidden,
    InvalidFields,
    NotAllowed,
    Problem,
    ProblemDocument,
    Unauthorized,
    Unavailable,
)

Responses = dict[int | str, dict[str, Any]]
_EVERYWHERE = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotAllowed,
    InvalidFields,
    Unavailable,
)


def problems(*kinds: type[Problem]) -> Responses:
    """Document the problems of a route that needs a key."""
    return _documented((*_EVERYWHERE, *kinds))


def open_problems(*kinds: type[Problem]) -> Responses:
    """Document the problems of a route that needs no key."""
    return _documented((NotAllowed, *kinds))


def _documented(kinds: tuple[type[Problem], ...]) -> Responses:
    by_status: dict[int, list[type[Problem]]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "description": "; ".join(kind.title for kind in same),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/ProblemDocument"},
                    "examples": {kind.name: {"value": _example(kind)} for kind in same},
                }
            },
        }
        for status, same in by_status.items()
    }


def _example(kind: type[Problem]) -> dict[str, Any]:
    document: dict[str, Any] = kind(kind.explanation).document().model_dump(mode="json")
    if kind is InvalidFields:
        document["errors"] = [
            {
                "pointer": "/recipe/optimizer/lr",
                "detail": "Input should be greater than 0",
            }
        ]
    return document


def header(name: str, description: str, example: str) -> dict[str, Any]:
    """Document a header of an answer."""
    return {
        name: {
            "description": description,
            "schema": {"type": "string"},
            "example": example,
        }
    }


def upload_body(what: str, extra: str, example: str) -> dict[str, Any]:
    """Document the two ways to send a file.

    Args:
        what: what is sent.
        extra: name of the part that holds JSON.
        example: of that JSON.
    """
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "additionalProperties": False,
                        "properties": {
                            "file": {
                                "type": "string",
                                "format": "binary",
                                "description": what,
                            },
                            "name": {
                                "type": "string",
                                "minLength": 1,
                                "maxLength": 200,
                                "description": "Default: the name of the file.",
                            },
                            extra: {
                                "type": "string",
                                "contentMediaType": "application/json",
                                "description": f"JSON, such as `{example}`.",
                            },
                        },
                    }
                },
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary"}
                },
            },
        }
    }


def describe(app: FastAPI) -> None:
    """Let the application describe itself in full."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            reference = "#/components/schemas/{model}"
            for model in (FieldError, ProblemDocument):
                schema = model.model_json_schema(ref_template=reference)
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
