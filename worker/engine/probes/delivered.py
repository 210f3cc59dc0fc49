"""How the delivered model does on training and held-out data.

Values:
    scores: `train` (a sample of at most 5,000 rows), `held_out`, `decide`, `final`:
        `Scores` as JSON, `decide` and `final` without the bulky parts.
    correct: packed hits (`pack_mask`) on `decide` and `final`.
    balanced_accuracy, log_loss: on `decide`, as plain numbers.
    train_balanced_accuracy, train_log_loss: likewise, on training rows.
    gap: training minus held-out balanced accuracy.
    recalls: of each class on all held-out rows.
    predicted_shares: share of answers for each class on all held-out rows.
    always: the class that is always answered, else None.
    non_finite: share of held-out rows whose outputs are not finite.
"""

import numpy as np
import torch
from torch import Tensor

from service.contract.report import Scores
from worker.engine.data import Split
from worker.engine.lab.experiment import pack_mask
from worker.engine.probes.inputs_as_trained import (
    answers,
    predictions,
    training_answers,
    training_sample,
)
from worker.engine.probes.material import (
    Material,
    Values,
    finite,
    note,
)
from worker.engine.probes.scores import recalls, score

BULKY = {"per_class", "confusion", "confusion_classes", "calibration", "segments"}


def measure(material: Material, _settings: Values) -> Values:
    """Score the delivered weights; there are no settings."""
    values: Values = {"notes": []}
    train = training_sample(material)
    if len(train) < len(material.train):
        note(
            values,
            f"training scores are those of {len(train)} of {len(material.train)} rows",
        )
    parts = {"train": train, "decide": material.decide, "final": material.final}
    raw = {
        "train": training_answers(material),
        "decide": answers(material, "decide"),
        "final": answers(material, "final"),
    }
    held = [name for name in ("decide", "final") if len(parts[name])]
    held_raw = torch.cat([raw[name] for name in held])
    held_y = np.concatenate([parts[name].y for name in held])

    scores = {
        name: _scores(material, raw[name], part, name) for name, part in parts.items()
    }
    whole = score(
        material.head,
        held_raw,
        held_y,
        class_names=material.dataset.class_names,
        split=material.decide.source,
    )
    values["scores"] = {
        "train": scores["train"].model_dump(mode="json"),
        "held_out": whole.model_dump(mode="json"),
        "decide": scores["decide"].model_dump(mode="json", exclude=BULKY),
        "final": scores["final"].model_dump(mode="json", exclude=BULKY),
    }
    values["correct"] = {
        name: pack_mask((predictions(material, raw[name]) == parts[name].y).tolist())
        for name in held
    }
    decide = scores["decide"]
    on_train = scores["train"].balanced_accuracy.value
    values["balanced_accuracy"] = finite(decide.balanced_accuracy.value)
    values["log_loss"] = finite(decide.log_loss.value)
    values["train_balanced_accuracy"] = finite(on_train)
    values["train_log_loss"] = finite(scores["train"].log_loss.value)
    values["gap"] = (
        finite(on_train - whole.balanced_accuracy.value)
        if on_train is not None and whole.balanced_accuracy.value is not None
        else None
    )
    _answers(material, values, held_raw, held_y)
    return values


def _scores(material: Material, raw: Tensor, part: Split, name: str) -> Scores:
    return score(
        material.head,
        raw,
        part.y,
        class_names=material.dataset.class_names,
        split=name,
    )


def _answers(
    material: Material,
    values: Values,
    raw: Tensor,
    y: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> None:
    classes = len(material.dataset.class_names)
    predicted = predictions(material, raw)
    shares = np.bincount(predicted, minlength=classes) / len(predicted)
    values["recalls"] = list(recalls(predicted, y, classes))
    values["predicted_shares"] = [float(share) for share in shares]
    only = int(np.argmax(shares))
    values["always"] = material.dataset.class_names[only] if shares[only] == 1 else None
    rows = raw.reshape(len(raw), -1)
    values["non_finite"] = float((~torch.isfinite(rows)).any(1).double().mean())
