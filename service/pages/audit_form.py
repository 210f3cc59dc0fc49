"""The form that starts an audit from the browser: uploads, recipe, budget."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import ValidationError
from starlette.datastructures import UploadFile as ReceivedFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.contract.errors import FieldError, InvalidFields, Problem
from service.contract.request import AuditRequest, DatasetSpec
from service.cursors import Slice
from service.keys import Caller
from service.pages.browser_session import caller_of, desk_of
from service.pages.page_route import KeyedRoute, show
from service.uploads import Upload, Uploads

CHOICES = 50
CHUNK_BYTES = 1 << 20
EXAMPLE_RECIPE = """{
  "optimizer": {"name": "adam", "lr": 0.001},
  "loss": {"name": "cross_entropy"},
  "epochs": 10,
  "batch_size": 32
}"""


router = APIRouter(route_class=KeyedRoute, include_in_schema=False)


@router.get("/audits/new")
def new_audit(request: Request) -> Response:
    """Show the form."""
    return _form_page(request, caller_of(request, role="submitter"))


@router.post("/audits/new")
def start_audit(  # noqa: PLR0913, PLR0917 - one parameter a field
    request: Request,
    model: Annotated[UploadFile | str | None, File()] = None,
    dataset: Annotated[UploadFile | str | None, File()] = None,
    model_id: Annotated[str, Form()] = "",
    dataset_id: Annotated[str, Form()] = "",
    recipe: Annotated[str, Form()] = "",
    budget: Annotated[str, Form()] = "standard",
    seed: Annotated[str, Form()] = "0",
) -> Response:
    """Take in what is new, and start the audit."""
    caller = caller_of(request, role="submitter")
    desk = desk_of(request)
    try:
        settings = _settings(recipe=recipe, budget=budget, seed=seed)
        _check(settings)
        asked = _request(
            model_id=_model(desk.uploads, caller, model, model_id),
            dataset_id=_dataset(desk.uploads, caller, dataset, dataset_id),
            **settings,
        )
        found = desk.audits.submit(caller, asked, None)
    except Problem as problem:
        return _form_page(
            request, caller, problem=problem, recipe=recipe, budget=budget
        )
    return RedirectResponse(f"/audits/{found.id}", status_code=303)


def _form_page(
    request: Request,
    caller: Caller,
    *,
    problem: Problem | None = None,
    recipe: str = EXAMPLE_RECIPE,
    budget: str = "standard",
) -> Response:
    uploads = desk_of(request).uploads
    return show(
        request,
        "new_audit.html",
        status_code=problem.status if problem else 200,
        models=uploads.models(caller, Slice(CHOICES)).items,
        datasets=uploads.datasets(caller, Slice(CHOICES)).items,
        recipe=recipe,
        budget=budget,
        problem=problem,
    )


def _settings(*, recipe: str, budget: str, seed: str) -> dict[str, Any]:
    try:
        given = json.loads(recipe) if recipe.strip() else {}
    except ValueError as error:
        raise InvalidFields(
            detail="The recipe is not JSON.",
            errors=[FieldError(pointer="/recipe", detail=str(error))],
        ) from error
    return {
        "recipe": given,
        "budget": budget,
        "seed": int(seed) if seed.isdecimal() else seed,
    }


def _check(settings: dict[str, Any]) -> None:
    """Find invalid fields before anything is stored."""
    _request(model_id="mdl_", dataset_id="dst_", **settings)


def _request(**fields: Any) -> AuditRequest:  # noqa: ANN401 - pydantic checks them
    try:
        return AuditRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidFields(
            detail="Some fields are not valid.",
            errors=[
                FieldError(
                    pointer="/" + "/".join(str(part) for part in found["loc"]),
                    detail=found["msg"],
                )
                for found in error.errors(include_url=False, include_input=False)
            ],
        ) from error


def _model(
    uploads: Uploads, caller: Caller, file: ReceivedFile | str | None, chosen: str
) -> str:
    if not isinstance(file, ReceivedFile) or not file.filename:
        return chosen or _missing("model")
    upload = _take_in(uploads, file)
    try:
        body, _ = uploads.store_model(
            caller, upload, name=None, metadata={}, idempotency_key=None
        )
    finally:
        upload.abort()
    return body.id


def _dataset(
    uploads: Uploads, caller: Caller, file: ReceivedFile | str | None, chosen: str
) -> str:
    if not isinstance(file, ReceivedFile) or not file.filename:
        return chosen or _missing("dataset")
    upload = _take_in(uploads, file)
    try:
        body, _ = uploads.store_dataset(
            caller, upload, name=None, spec=DatasetSpec(), idempotency_key=None
        )
    finally:
        upload.abort()
    return body.id


def _take_in(uploads: Uploads, file: ReceivedFile) -> Upload:
    upload = uploads.begin()
    upload.file_name = file.filename or ""
    try:
        while chunk := file.file.read(CHUNK_BYTES):
            upload.write(chunk)
    except BaseException:
        upload.abort()
        raise
    return upload


def _missing(kind: str) -> str:
    raise InvalidFields(
        detail=f"Choose a {kind}.",
        errors=[FieldError(pointer=f"file:{kind}", detail="none was given")],
    )
