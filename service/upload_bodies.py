"""Rows of models and datasets as callers see them."""

from typing import Any

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


def inspection(stored: dict[str, Any] | None) -> Inspection:
    """Read a stored inspection."""
    return Inspection.model_validate(stored or {"status": "pending"})
