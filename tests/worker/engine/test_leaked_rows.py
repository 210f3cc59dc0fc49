import numpy as np
import pytest

from service.contract.causes import Cause
from tests.builders_engine import HEADER, World, make_subject
from worker.engine.conclusion import conclude
from worker.engine.lab.experiment import Arm, RecipeChange, pack_mask
from worker.engine.leaked_rows import on_these_rows, rows_that_count

FOUND = {"share": 0.3, "low": 0.25, "high": 0.35, "count": 90}
NONE = {"share": 0.0, "low": 0.0, "high": 0.01, "count": 0}


def leakage(leaked: dict[str, np.ndarray], exact=FOUND):
    flags = np.concatenate([leaked["decide"], leaked["final"]])
    return {"exact": exact, "near": NONE, "mask": pack_mask(flags)}


def faster(arm: Arm) -> float:
    rates = [
        (change.patch.get("optimizer") or {}).get("lr", 0.0)
        for change in arm.changes
        if isinstance(change, RecipeChange)
    ]
    return 0.25 if max(rates, default=0.0) >= 0.01 else 0.0


def a_world(*, leaks: bool):
    """Held-out rows that a higher rate wins all stand in training, where they leak."""
    world = World(make_subject(), base=0.6, effect=faster)
    won = {
        split: (rows > 0.55) & (rows < 0.9) for split, rows in world.difficulty.items()
    }
    if leaks:
        world.measures["leakage"] = leakage(won)
    return world


@pytest.mark.parametrize("leaks", [False, True])
def test_a_gain_on_rows_that_were_trained_on_is_no_gain(*, leaks: bool):
    world = a_world(leaks=leaks)

    report = conclude(world.subject, world.audit(), HEADER)

    verdicts = {finding.cause: finding.verdict for finding in report.findings}
    assert (verdicts[Cause.LEARNING_RATE_TOO_LOW] == "found") is not leaks
    said = "held-out rows also stand in the training data: gains"
    assert any(said in limit for limit in report.limits) is leaks


def test_the_repaired_model_is_judged_on_rows_that_were_not_trained_on():
    world = World(make_subject(), base=0.6, effect=faster)
    hard = {split: rows > 0.95 for split, rows in world.difficulty.items()}
    world.measures["leakage"] = leakage(hard)
    never = {
        split: pack_mask(np.zeros(len(rows), dtype=bool))
        for split, rows in world.difficulty.items()
    }
    world.measures["delivered"] = {"correct": never, "balanced_accuracy": 0.0}

    report = conclude(world.subject, world.audit(), HEADER)

    left = int((~hard["final"]).sum())
    assert report.remedy.judged_on == (
        f"{left} held-out rows that no decision looked at and no training"
    )
    assert report.remedy.after.accuracy.value > 0.85 / 0.95 - 0.05


def test_the_delivered_model_is_compared_on_rows_that_were_not_trained_on():
    subject = make_subject()
    labels = subject.labels
    leaked = {split: np.arange(len(y)) % 4 == 0 for split, y in labels.items()}
    hits = {split: pack_mask(flags) for split, flags in leaked.items()}
    measures = {
        "leakage": leakage(leaked),
        "delivered": {"correct": hits, "balanced_accuracy": 0.25, "gap": 0.1},
    }

    counted = rows_that_count(subject, measures)
    clean = on_these_rows(subject, measures, counted)["delivered"]

    assert counted["decide"].tolist() == (~leaked["decide"]).tolist()
    assert clean["balanced_accuracy"] == 0.0
    assert clean["gap"] == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("share", "exact"),
    [(0.3, NONE), (0.9, FOUND)],
    ids=["no more than by chance", "hardly any left"],
)
def test_all_rows_count(share: float, exact: dict):
    subject = make_subject()
    leaked = {
        split: np.arange(len(y)) < share * len(y) for split, y in subject.labels.items()
    }

    assert rows_that_count(subject, {"leakage": leakage(leaked, exact)}) == {}


def test_all_rows_count_where_a_class_would_be_left_with_too_few():
    subject = make_subject()
    leaked = {split: y == 0 for split, y in subject.labels.items()}

    assert rows_that_count(subject, {"leakage": leakage(leaked)}) == {}
