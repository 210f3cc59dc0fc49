"""How the delivered model does on training and held-out data.

Values:
    scores: `train` (a sample of at most 5,000 rows), `held_out`, `decide`, `final`:
        `Scores` as JSON, `decide` and `final` without the bulky parts.
    correct: packed hits (`pack_mask`) on `decide` and `final`.
    as_it_runs: `scores` and `correct` of the file in the mode in which it came, where
        that is not evaluation mode; else None. All other values are of evaluation mode.
    balanced_accuracy, log_loss: on `decide`, as plain numbers.
    train_balanced_accuracy, train_log_loss: likewise, on training rows.
    gap: training minus held-out balanced accuracy.
    recalls: of each class on all held-out rows.
    predicted_shares: share of answers for each class on all held-out rows.
    always: the class that is always answered, else None.
    spoiled: share of held-out rows of finite inputs whose outputs are no numbers: NaN,
        infinite, or nothing but minus infinity.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from service.contract.report import Scores
from worker.engine.data import Split
from worker.engine.lab.experiment import pack_mask
from worker.engine.probes.agreement import compare, exceeds
from worker.engine.probes.inputs_as_trained import (
    AsTrained,
    answers,
    as_delivered,
    predictions,
    training_answers,
    training_sample,
)
from worker.engine.probes.material import (
    Array,
    Flags,
    Labels,
    Material,
    Values,
    choose,
    few,
    finite,
    note,
)
from worker.engine.probes.scores import recalls, score

HELD_OUT = ("decide", "final")
PASSES, LEAST_ROWS = 16, 16  # of the rows that tell whether the file runs otherwise
SEED = 0
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
    scores, correct = _scored(material, parts, raw)
    values["scores"], values["correct"] = _shown(scores), correct
    values["as_it_runs"] = None
    prepare = AsTrained(material)
    if _runs_otherwise(material, raw["decide"], prepare):
        own = {n: _as_it_runs(material, part, prepare) for n, part in parts.items()}
        scores_so, correct_so = _scored(material, parts, own)
        values["as_it_runs"] = {"scores": _shown(scores_so), "correct": correct_so}
        note(
            values,
            "scores are those of the file as it runs, in training mode; it was "
            "compared with retrained models in evaluation mode, where it hits "
            f"{scores['held_out'].balanced_accuracy.value or 0:.1%}",
        )
    whole = scores["held_out"]
    held = [name for name in HELD_OUT if len(parts[name])]
    held_raw = torch.cat([raw[name] for name in held])
    held_y = np.concatenate([parts[name].y for name in held])
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
    spoiled = _spoiled(held_raw)
    if spoiled.any():
        spoiled &= np.concatenate([_is_finite(parts[name].x) for name in held])
    values["spoiled"] = float(spoiled.mean())
    if spoiled.any():
        note(
            values,
            f"the model returns no numbers for {int(spoiled.sum())} of {len(held_y)} "
            "held-out samples, whose scores mean nothing",
        )
    return values


def _scored(
    material: Material, parts: Mapping[str, Split], raw: Mapping[str, Tensor]
) -> tuple[dict[str, Scores], Values]:
    """Score outputs by part, and on all held-out rows; and pack the hits on these."""
    held = [name for name in HELD_OUT if len(parts[name])]

    def scores(said: Tensor, y: Labels, split: str) -> Scores:
        names = material.dataset.class_names
        return score(material.head, said, y, class_names=names, split=split)

    found = {name: scores(raw[name], part.y, name) for name, part in parts.items()}
    found["held_out"] = scores(
        torch.cat([raw[name] for name in held]),
        np.concatenate([parts[name].y for name in held]),
        material.decide.source,
    )
    correct: Values = {
        name: pack_mask((predictions(material, raw[name]) == parts[name].y).tolist())
        for name in held
    }
    return found, correct


def _shown(scores: Mapping[str, Scores]) -> Values:
    return {
        name: scores[name].model_dump(
            mode="json", exclude=BULKY if name in HELD_OUT else set()
        )
        for name in ("train", "held_out", "decide", "final")
    }


def _runs_otherwise(material: Material, evaluated: Tensor, prepare: AsTrained) -> bool:
    """Whether the file itself answers otherwise than in evaluation mode."""
    rows = min(len(material.decide), few(material, PASSES, least=LEAST_ROWS))
    own = _as_it_runs(material, choose(material.decide, np.arange(rows)), prepare)
    return exceeds(compare(material, own, evaluated[:rows].reshape(own.shape)))


def _as_it_runs(material: Material, part: Split, prepare: AsTrained) -> Tensor:
    if not len(part):
        return torch.empty(0)
    with torch.random.fork_rng():
        torch.random.manual_seed(SEED)
        return as_delivered(material, part.x, prepare)


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


def _spoiled(raw: Tensor) -> Flags:
    """Which rows hold what is no number; the logarithm of 0 is one."""
    rows = raw.reshape(len(raw), -1)
    odd = torch.isnan(rows).any(1) | torch.isposinf(rows).any(1)
    return np.asarray((odd | torch.isneginf(rows).all(1)).numpy(), np.bool_)


def _is_finite(x: Array) -> Flags:
    """Which samples hold numbers alone."""
    rows = x.reshape(len(x), -1)
    return np.asarray(np.isfinite(rows).all(1), np.bool_)
