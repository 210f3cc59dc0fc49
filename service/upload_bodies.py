"""Rows of models and datasets as callers see them."""

from typing import Any

from service.contract.errors import Crashed, Internal, problem_from
from service.contract.jobs import DatasetBody, Inspection, ModelBody
from service.store.tables import DatasetRow, ModelRow


def model_body(row: ModelRow) -> ModelBody:
    """Show a model."""
    return ModelBody.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "format": row.format,
            "sha256": row.sha256,
            "size_bytes": row.size_bytes,
            "created_at": row.created_at,
            "metadata": (row.details or {}).get("metadata", {}),
            "inspection": inspection(row.inspection),
        }
    )


def dataset_body(row: DatasetRow) -> DatasetBody:
    """Show a dataset."""
    return DatasetBody.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "format": row.format,
            "sha256": row.sha256,
            "size_bytes": row.size_bytes,
            "created_at": row.created_at,
            "spec": row.spec,
            "inspection": inspection(row.inspection),
        }
    )


def may_be_repeated(found: Inspection) -> bool:
    """Say whether an inspection failed, and perhaps for no fault of the file."""
    problem = found.problem
    return problem is not None and isinstance(
        problem_from(problem.model_dump()), Internal | Crashed
    )


def inspection(stored: dict[str, Any] | None) -> Inspection:
    """Read a stored inspection."""
    return Inspection.model_validate(stored or {"status": "pending"})
