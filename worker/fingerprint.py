"""The key under which an experiment's outcome is kept, for any later audit."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def outcome_digest(
    *,
    model_sha256: str,
    dataset_sha256: str,
    spec: Mapping[str, Any],
    request: Mapping[str, Any],
    engine: str,
    experiment: str,
) -> str:
    """Compute the SHA-256 of all that decides an outcome.

    Args:
        model_sha256: of the model's bytes.
        dataset_sha256: of the dataset's bytes.
        spec: how the dataset is read.
        request: the audit's request; its recipe, seed and budget count, the budget
            since it may cut a training short.
        engine: the engine's version.
        experiment: the experiment's own digest.
    """
    parts = [
        model_sha256,
        dataset_sha256,
        spec,
        request.get("recipe", {}),
        request.get("seed", 0),
        request.get("budget", "standard"),
        engine,
        experiment,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
