"""Models and datasets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, JsonValue, ValidationError
from starlette.concurrency import run_in_threadpool

from service.api.access import (
    Admin,
    CallerRoute,
    IdempotencyKey,
    Services,
    Submitter,
    Viewer,
)
from service.api.arrival import receive
from service.api.documented import header, problems, upload_body
from service.api.error_handlers import invalid_fields
from service.api.measurements import Measurements
from service.api.strict_json import parse_json
from service.contract.errors import (
    BadRequest,
    Conflict,
    FieldError,
    IdempotencyMismatch,
    InvalidFields,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from service.contract.jobs import (
    DatasetBody,
    DatasetFormat,
    ModelBody,
    ModelFormat,
    Page,
)
from service.contract.request import DatasetSpec
from service.cursors import slice_of
from service.desk import Desk
from service.uploads import Upload, checked_name

router = APIRouter(prefix="/v1", route_class=CallerRoute)

Limit = Annotated[int, Query(ge=1, le=200, description="Items a page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=200, description="`next_cursor` of the page before."),
]
Digest = Annotated[
    str | None, Query(pattern=r"^[0-9a-f]{64}$", description="Only these bytes.")
]
NameFilter = Annotated[
    str | None, Query(max_length=200, description="Only with this name.")
]
RawName = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        description="The name, where the body is the raw bytes.",
    ),
]
_METADATA_BYTES = 65_536  # lists show the metadata of 200 models at once


def _answers(body: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Describe what an upload is answered with."""
    return {
        200: {
            "model": body,
            "description": "The same bytes are here already; this is their id.",
        },
        201: {
            "headers": header("Location", "Address of the upload.", "/v1/models/mdl_…")
        },
        **problems(IdempotencyMismatch, TooLarge, UnsupportedMediaType),
    }


@router.post(
    "/models",
    tags=["models"],
    summary="Upload a model",
    status_code=201,
    responses=_answers(ModelBody),
    openapi_extra=upload_body(
        "A TorchScript archive (`.pt`, `.ts`, `.jit`).",
        "metadata",
        '{"commit": "3f2a"}',
    ),
)
async def upload_model(
    request: Request,
    response: Response,
    caller: Submitter,
    desk: Services,
    idempotency_key: IdempotencyKey = None,
    name: RawName = None,
) -> ModelBody:
    """Upload a TorchScript archive. The same bytes give the same id.

    Only its structure is looked at here; what the model is stands in `inspection`,
    once a worker has opened it.
    """
    async with _arrived(request, desk, part="metadata") as (upload, fields):
        body, is_new = await run_in_threadpool(
            desk.uploads.store_model,
            caller,
            upload,
            name=checked_name(fields.get("name", name)),
            metadata=_object(fields, "metadata"),
            idempotency_key=idempotency_key,
        )
    _count(request, "models", upload.writer.size_bytes)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/models/{body.id}"
    return body


@router.post(
    "/datasets",
    tags=["datasets"],
    summary="Upload a dataset",
    status_code=201,
    responses=_answers(DatasetBody),
    openapi_extra=upload_body(
        "`.npz`, `.safetensors`, `.csv`, `.parquet`, `.zip` with images, or `.pt`.",
        "spec",
        '{"label": "species", "class_names": ["setosa", "virginica"]}',
    ),
)
async def upload_dataset(
    request: Request,
    response: Response,
    caller: Submitter,
    desk: Services,
    idempotency_key: IdempotencyKey = None,
    name: RawName = None,
) -> DatasetBody:
    """Upload a dataset. The same bytes under the same spec give the same id.

    Only its structure is looked at here; splits, shapes and classes stand in
    `inspection`, once a worker has opened it.
    """
    async with _arrived(request, desk, part="spec") as (upload, fields):
        body, is_new = await run_in_threadpool(
            desk.uploads.store_dataset,
            caller,
            upload,
            name=checked_name(fields.get("name", name)),
            spec=_spec(fields),
            idempotency_key=idempotency_key,
        )
    _count(request, "datasets", upload.writer.size_bytes)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/datasets/{body.id}"
    return body


@router.get("/models", tags=["models"], summary="List models", responses=problems())
def list_models(  # noqa: PLR0913, PLR0917 - filters
    caller: Viewer,
    desk: Services,
    limit: Limit = 50,
    cursor: Cursor = None,
    name: NameFilter = None,
    sha256: Digest = None,
    format: ModelFormat | None = None,  # noqa: A002 - named as the field
) -> Page[ModelBody]:
    """List the models of the key's project, newest first."""
    chosen = slice_of(cursor, limit, "mdl")
    return desk.uploads.models(caller, chosen, name=name, sha256=sha256, format=format)


@router.get(
    "/datasets", tags=["datasets"], summary="List datasets", responses=problems()
)
def list_datasets(  # noqa: PLR0913, PLR0917 - filters
    caller: Viewer,
    desk: Services,
    limit: Limit = 50,
    cursor: Cursor = None,
    name: NameFilter = None,
    sha256: Digest = None,
    format: DatasetFormat | None = None,  # noqa: A002 - named as the field
) -> Page[DatasetBody]:
    """List the datasets of the key's project, newest first."""
    chosen = slice_of(cursor, limit, "dst")
    return desk.uploads.datasets(
        caller, chosen, name=name, sha256=sha256, format=format
    )


@router.get(
    "/models/{model_id}",
    tags=["models"],
    summary="Look at a model",
    responses=problems(NotFound),
)
def read_model(model_id: str, caller: Viewer, desk: Services) -> ModelBody:
    """Look at a model; `inspection` says what its graph shows."""
    return desk.uploads.model(caller, model_id)


@router.get(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    summary="Look at a dataset",
    responses=problems(NotFound),
)
def read_dataset(dataset_id: str, caller: Viewer, desk: Services) -> DatasetBody:
    """Look at a dataset; `inspection` says splits, shapes, classes and counts."""
    return desk.uploads.dataset(caller, dataset_id)


@router.delete(
    "/models/{model_id}",
    tags=["models"],
    summary="Delete a model",
    status_code=204,
    responses=problems(NotFound, Conflict),
)
def delete_model(model_id: str, caller: Admin, desk: Services) -> None:
    """Delete a model that no audit and no schedule refers to."""
    desk.uploads.delete_model(caller, model_id)


@router.delete(
    "/datasets/{dataset_id}",
    tags=["datasets"],
    summary="Delete a dataset",
    status_code=204,
    responses=problems(NotFound, Conflict),
)
def delete_dataset(dataset_id: str, caller: Admin, desk: Services) -> None:
    """Delete a dataset that no audit and no schedule refers to."""
    desk.uploads.delete_dataset(caller, dataset_id)


@asynccontextmanager
async def _arrived(
    request: Request, desk: Desk, *, part: str
) -> AsyncIterator[tuple[Upload, dict[str, str]]]:
    """Take in an upload with its fields, `name` and one more; keep nothing else."""
    upload = await run_in_threadpool(desk.uploads.begin)
    try:
        fields = await receive(
            request,
            upload,
            fields=frozenset({"name", part}),
            limit_bytes=desk.settings.upload_limit_bytes,
        )
        yield upload, fields
    finally:
        upload.abort()


def _object(fields: dict[str, str], name: str) -> dict[str, JsonValue]:
    """Read a part that holds a JSON object."""
    text = fields.get(name)
    if text is None:
        return {}
    if name == "metadata" and len(text.encode()) > _METADATA_BYTES:
        raise _invalid(name, f"expected {_METADATA_BYTES} bytes of JSON at most")
    try:
        value: Any = parse_json(text.encode())
    except BadRequest as problem:
        raise _invalid(name, problem.detail) from problem
    if not isinstance(value, dict):
        raise _invalid(name, "expected a JSON object")
    return value


def _invalid(name: str, why: str) -> InvalidFields:
    return InvalidFields(
        detail=f"The field `{name}` is not valid.",
        errors=[FieldError(pointer=f"/{name}", detail=why)],
    )


def _spec(fields: dict[str, str]) -> DatasetSpec:
    value = _object(fields, "spec")
    try:
        return DatasetSpec.model_validate(value)
    except ValidationError as error:
        raise invalid_fields(error.errors(), value, prefix="/spec") from error


def _count(request: Request, kind: str, size_bytes: int) -> None:
    measurements: Measurements = request.app.state.measurements
    measurements.uploaded_bytes.labels(kind).inc(size_bytes)
