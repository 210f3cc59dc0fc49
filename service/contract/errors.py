"""Everything that can go wrong for a caller, as one tree.

Problem
├── BadRequest            400  malformed, truncated or unreadable input
├── Unauthorized          401
├── Forbidden             403
├── NotFound              404
├── NotAllowed            405
├── Conflict              409
├── TooLarge              413
├── UnsupportedMediaType  415
├── RangeNotSatisfiable   416
├── InvalidFields         422
├── TooManyRequests       429
├── Unusable              422  a file that opened but that cannot be audited
└── Unavailable           503

The domain knows no HTTP: the numbers stand only in `Problem.status`, which the one
error handler of the API copies into the answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import BaseModel, Field


class FieldError(BaseModel):
    """One invalid field."""

    pointer: str = Field(
        description="JSON pointer (RFC 6901) into the request body, "
        "or `query:name` / `header:name` / `file`."
    )
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457 `application/problem+json`."""

    type: str = Field(examples=["/problems/not-found"])
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """An error that a caller can understand and act on."""

    name: ClassVar[str] = "bad-request"
    title: ClassVar[str] = "The request cannot be understood"
    status: ClassVar[int] = 400
    explanation: ClassVar[str] = ""

    def __init__(self, detail: str, *, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []

    def document(self) -> ProblemDocument:
        """Say it as RFC 9457 does."""
        return ProblemDocument(
            type=f"/problems/{self.name}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            errors=self.errors,
        )


@contextmanager
def at(pointer: str) -> Iterator[None]:
    """Have problems of a part of the body point into the body.

    Args:
        pointer: JSON pointer to the part.

    Raises:
        Problem: as raised inside, its pointers below this one.
    """
    try:
        yield
    except Problem as problem:
        problem.errors = [
            FieldError(pointer=pointer + one.pointer, detail=one.detail)
            for one in problem.errors
        ]
        raise


class BadRequest(Problem):
    """Malformed, truncated or unreadable input."""

    name = "bad-request"
    title = "The request cannot be understood"
    explanation = "The body is not what its content type says, or is cut off."


class Unauthorized(Problem):
    """No key, or an unknown, expired or revoked one."""

    name = "unauthorized"
    title = "A valid key is needed"
    status = 401
    explanation = "Send `Authorization: Bearer KEY` with a key that is known here."


class Forbidden(Problem):
    """The key's role does not allow this."""

    name = "forbidden"
    title = "The key's role does not allow this"
    status = 403
    explanation = (
        "Viewers read, submitters upload and audit, admins manage keys and delete."
    )


class NotFound(Problem):
    """There is no such thing, or not in this key's project."""

    name = "not-found"
    title = "There is no such thing"
    status = 404
    explanation = "Nothing is known under this address in the project of the key."


class NotAllowed(Problem):
    """The address exists, the method does not."""

    name = "method-not-allowed"
    title = "The method is not offered here"
    status = 405
    explanation = "The answer's `Allow` header lists what this address offers."


class NotAcceptable(Problem):
    """The asked-for format is not offered."""

    name = "not-acceptable"
    title = "This format is not offered"
    status = 406
    explanation = "The answer lists the formats that are offered."


class Conflict(Problem):
    """It is not in a state that allows this."""

    name = "conflict"
    title = "Not possible in the present state"
    status = 409
    explanation = "A report can be read once its audit has finished, for example."


class TooLarge(Problem):
    """Larger than the operator's limit."""

    name = "too-large"
    title = "Too large"
    status = 413
    explanation = "The upload, or what it inflates to, is over the configured limit."


class UnsupportedMediaType(Problem):
    """A format that is not supported."""

    name = "unsupported-media-type"
    title = "This format is not supported"
    status = 415
    explanation = "See the documentation for the formats of models and datasets."


class RangeNotSatisfiable(Problem):
    """A part of a file that the file does not have."""

    name = "range-not-satisfiable"
    title = "The file has no such part"
    status = 416
    explanation = "`Content-Range` says how many bytes the file has."


class InvalidFields(Problem):
    """Fields that are missing, unknown or out of range."""

    name = "invalid-fields"
    title = "Some fields are not valid"
    status = 422
    explanation = "Each entry of `errors` names a field and what was expected."


class UnusableModel(Problem):
    """A model that opened but that cannot be audited."""

    name = "unusable-model"
    title = "The model cannot be audited"
    status = 422
    explanation = (
        "A model is a classifier: one tensor in, (batch, classes) floats out, or "
        "(batch,) / (batch, 1) for two classes; nothing kept between calls."
    )


class UnusableDataset(Problem):
    """A dataset that opened but that cannot be audited."""

    name = "unusable-dataset"
    title = "The dataset cannot be audited"
    status = 422
    explanation = (
        "A dataset holds at least two classes, enough samples of each, numbers as "
        "features, and labels that the classes cover."
    )


class Mismatch(Problem):
    """A model and a dataset that do not fit each other."""

    name = "mismatch"
    title = "Model and dataset do not fit"
    status = 422
    explanation = "The shape of a sample, or the number of classes, differs."


class IdempotencyMismatch(Problem):
    """An idempotency key that was used with another body."""

    name = "idempotency-mismatch"
    title = "The idempotency key was used for another request"
    status = 422
    explanation = "Use a new key for a new request."


class TooManyRequests(Problem):
    """Over the rate or quota."""

    name = "too-many-requests"
    title = "Too many requests"
    status = 429
    explanation = "`Retry-After` says when to try again."


class Crashed(Problem):
    """The model's process hung, or died or broke its limits twice."""

    name = "crashed"
    title = "The audit's process ended early"
    status = 422
    explanation = (
        "The confined process that ran the model was killed by a signal or by its "
        "memory limit each time it was tried, or reached its time limit."
    )


class Internal(Problem):
    """A defect of ours."""

    name = "internal"
    title = "A defect in model-audit"
    status = 500
    explanation = "This is a defect in the service; the operator's log has details."


class Unavailable(Problem):
    """Something the service needs is down for the moment."""

    name = "unavailable"
    title = "Not available at the moment"
    status = 503
    explanation = (
        "The database or the blob store does not answer, or the service is being "
        "restarted; try again later."
    )


PROBLEMS: tuple[type[Problem], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    NotAllowed,
    NotAcceptable,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    InvalidFields,
    UnusableModel,
    UnusableDataset,
    Mismatch,
    IdempotencyMismatch,
    TooManyRequests,
    Crashed,
    Internal,
    Unavailable,
)
BY_NAME: dict[str, type[Problem]] = {problem.name: problem for problem in PROBLEMS}


def problem_from(document: dict[str, Any]) -> Problem:
    """Rebuild a problem that crossed a process boundary as JSON.

    Raises:
        ValidationError: the document is not a problem document.
    """
    parsed = ProblemDocument.model_validate(document)
    kind = BY_NAME.get(parsed.type.removeprefix("/problems/"), Internal)
    return kind(parsed.detail, errors=parsed.errors)
