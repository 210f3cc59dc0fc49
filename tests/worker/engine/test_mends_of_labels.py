"""What is tried against wrong labels, and that it is what the report lists."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.contract.causes import Cause
from service.contract.recipe import Loss, Optimizer, Recipe
from tests.builders_engine import HEADER, World, make_subject
from worker.engine.check import Case, Trial
from worker.engine.checks.label_noise import LabelNoise
from worker.engine.conclusion import conclude
from worker.engine.data import Dataset, Split
from worker.engine.lab.experiment import (
    DataChange,
    pack_mask,
    unpack_flags,
)
from worker.engine.lab.materials import Material
from worker.engine.lab.views import View, changed_view
from worker.engine.probes import noise
from worker.engine.probes.doubts import doubt
from worker.engine.probes.material import choose
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject

ROWS = 200
SURE = np.arange(ROWS) % 10 == 0
UNSURE = np.arange(ROWS) % 20 == 5


def make_noise(**fields: Any) -> dict[str, dict[str, Any]]:
    return {
        "noise": {
            "rate": {"value": 0.15, "low": 0.1, "high": 0.2},
            "mask": pack_mask(SURE | UNSURE),
            "random_mask": pack_mask(np.roll(SURE | UNSURE, 1)),
            "sure_mask": pack_mask(SURE),
            "unsure_mask": pack_mask(UNSURE),
            "corrections": [2] * int(SURE.sum()),
            "suspects": [],
            **fields,
        }
    }


def with_loss(name: str, smoothing: float = 0.0) -> Subject:
    recipe = Recipe(
        optimizer=Optimizer(name="adam", lr=1e-3),
        loss=Loss(name=name, label_smoothing=smoothing),
        epochs=10,
    )
    return make_subject(recipe=recipe)


@pytest.mark.parametrize(
    ("least", "verdict"), [(0.12, "inconclusive"), (0.03, "not_found")]
)
def test_many_contradicted_labels_are_not_cleared_for_want_of_a_gain(least, verdict):
    measures = make_noise(rate={"value": 0.15, "low": least, "high": 0.2})
    mend = LabelNoise().mends(make_subject(), measures)[0]
    gain = PairedGain(value=-0.01, error=0.005, degrees=100, seeds=8)
    trial = Trial(mend, gain, confirmed=True, decision="not_found")
    case = Case(measures=measures, trial=trial, gaps={mend.key: gain})

    finding = LabelNoise().judge(make_subject(), case)

    assert finding.verdict == verdict
    assert ("wrong or hard cannot be told" in finding.summary) is (least > 0.1)
    assert finding.gain.value == -0.01


@pytest.mark.parametrize("decision", ["inconclusive", "not_found"])
def test_labels_that_differ_from_held_out_ones_are_suspected_without_a_gain(decision):
    """Of a rare class so many are wrong that nothing learned from them can gain."""
    measures = make_noise(
        rate={"value": 0.26, "low": 0.2, "high": 0.3}, by_held_out=True
    )
    mend = LabelNoise().mends(make_subject(), measures)[0]
    gain = PairedGain(value=0.0, error=0.01, degrees=100, seeds=8)
    trial = Trial(mend, gain, confirmed=True, decision=decision)

    finding = LabelNoise().judge(make_subject(), Case(measures=measures, trial=trial))

    assert finding.verdict == "suspected"
    assert "26 % of the training labels are wrong" in finding.summary
    assert finding.reason is None
    assert finding.recommendation.recipe_patch is None


@pytest.mark.parametrize(("least", "is_told"), [(0.12, True), (0.03, False)])
def test_a_gain_left_open_is_said_to_hide_behind_wrong_held_out_labels(least, is_told):
    measures = make_noise(rate={"value": 0.15, "low": least, "high": 0.2})
    mend = LabelNoise().mends(make_subject(), measures)[0]
    gain = PairedGain(value=0.022, error=0.011, degrees=100, seeds=16)
    trial = Trial(mend, gain, confirmed=True, decision="inconclusive")

    finding = LabelNoise().judge(make_subject(), Case(measures=measures, trial=trial))

    assert finding.verdict == "inconclusive"
    assert ("held-out labels are as often wrong" in finding.summary) is is_told
    assert finding.reason == finding.summary


MIX_ALONE = {
    "label_shift": {"p_value": 1e-6, "distance": 0.2},
    "any_class": {"p_value": 0.4, "value": 0.51},
}


@pytest.mark.parametrize(
    ("contradicted", "by_held_out", "shift", "verdict"),
    [
        (0.51, False, {}, "suspected"),
        (0.51, True, {}, "found"),
        (0.25, False, {}, "found"),
        (0.51, False, MIX_ALONE, "found"),  # which only wrong labels can move
    ],
)
def test_labels_of_classes_that_overlap_still_more_are_not_called_wrong(
    contradicted, by_held_out, shift, verdict
):
    counts = {"contradicted": contradicted}
    measures = make_noise(counts=counts, by_held_out=by_held_out) | {"shift": shift}
    mend = LabelNoise().mends(make_subject(), measures)[0]
    gain = PairedGain(value=0.065, error=0.01, degrees=100, seeds=8)
    trial = Trial(mend, gain, confirmed=True, decision="found", role="primary")

    finding = LabelNoise().judge(make_subject(), Case(measures=measures, trial=trial))

    assert finding.verdict == verdict
    assert ("cannot be told" in finding.summary) is (verdict == "suspected")
    assert "+6.5 points" in finding.summary


@pytest.mark.parametrize(("least", "verdict"), [(0.12, "found"), (0.03, "suspected")])
def test_many_labels_that_are_surely_wrong_are_a_fault_whatever_they_cost(
    least, verdict
):
    measures = make_noise(rate={"value": 0.15, "low": least, "high": 0.2})
    mend = LabelNoise().mends(make_subject(), measures)[0]
    gain = PairedGain(value=0.035, error=0.005, degrees=100, seeds=8)
    trial = Trial(mend, gain, confirmed=True, decision="found", role="primary")

    finding = LabelNoise().judge(make_subject(), Case(measures=measures, trial=trial))

    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("mix", "inputs", "verdict"),
    [
        (1e-9, 0.4, "inconclusive"),
        (0.3, 0.4, "not_found"),
        (1e-9, 1e-9, "not_found"),  # the inputs moved along
    ],
)
def test_labels_are_not_cleared_where_classes_moved_and_inputs_did_not(
    mix, inputs, verdict
):
    shift = {
        "label_shift": {"p_value": mix, "distance": 0.3},
        "any_class": {"p_value": inputs},
    }
    measures = make_noise(rate={"value": 0.01, "low": 0.0, "high": 0.02})

    finding = LabelNoise().judge(
        make_subject(), Case(measures={**measures, "shift": shift})
    )

    assert finding.verdict == verdict


def keys(subject: Subject, measures: dict[str, dict[str, Any]]) -> list[str]:
    return [mend.key for mend in LabelNoise().mends(subject, measures)]


def test_suspects_are_dropped_corrected_or_dropped_with_smoothing():
    assert keys(make_subject(), make_noise()) == [
        "suspects dropped",
        "suspects corrected",
        "suspects dropped, labels smoothed",
    ]


@pytest.mark.parametrize(
    ("value", "low", "is_mended"),
    [(0.03, 0.02, False), (0.05, 0.015, False), (0.05, 0.03, True)],
)
def test_few_wrong_labels_are_not_mended_nor_what_may_be_fewer(value, low, is_mended):
    few = {"value": value, "low": low, "high": 0.13}

    assert bool(keys(make_subject(), make_noise(rate=few))) is is_mended


def test_a_reference_that_contradicts_most_labels_cannot_tell():
    most = {"value": 0.7, "low": 0.66, "high": 0.74}
    measures = make_noise(rate=most)

    assert keys(make_subject(), measures) == []
    finding = LabelNoise().judge(make_subject(), Case(measures=measures))
    assert finding.verdict == "inconclusive"
    assert "70 %" in finding.summary


@pytest.mark.parametrize(("name", "smoothing"), [("mse", 0.0), ("cross_entropy", 0.1)])
def test_labels_are_smoothed_only_where_the_loss_can_and_does_not(name, smoothing):
    assert "suspects dropped, labels smoothed" not in keys(
        with_loss(name, smoothing), make_noise()
    )


MATRIX = [[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
KNOWN = "mistakes expected by the loss"


def test_a_loss_that_knows_the_mistakes_must_beat_one_that_expects_any():
    measures = make_noise(transition_matrix=MATRIX, aimed=0.9)
    [mend] = [m for m in LabelNoise().mends(make_subject(), measures) if m.key == KNOWN]

    assert mend.patch == {"loss": {"transition_matrix": MATRIX}}
    [control] = mend.control
    even = control.patch["loss"]["transition_matrix"]
    for k, row in enumerate(even):  # it knows neither which class nor to which
        assert row == pytest.approx([0.9 if k == j else 0.05 for j in range(3)])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cross_entropy", {"transition_matrix": MATRIX, "aimed": 0.2}),
        ("cross_entropy", {"aimed": 0.9}),
        ("cross_entropy", {"transition_matrix": [[0.5, 0.5], [0, 1]], "aimed": 0.9}),
        ("mse", {"transition_matrix": MATRIX, "aimed": 0.9}),
    ],
    ids=["to any class", "too many classes", "other outputs", "another loss"],
)
def test_mistakes_are_expected_only_where_they_are_aimed_and_the_loss_can(name, fields):
    assert KNOWN not in keys(with_loss(name), make_noise(**fields))


def test_the_matrix_of_mistakes_tells_which_class_is_taken_for_which():
    values = noise.measure(make_material(), {})

    matrix = np.array(values["transition_matrix"])
    assert matrix.sum(1) == pytest.approx(np.ones(3), abs=1e-9)
    assert list(matrix.argmax(1)) == [0, 1, 2]
    wrong = matrix - np.diag(np.diag(matrix))
    assert list(wrong.argmax(1)) == [1, 2, 0]
    assert values["aimed"] > 0.6


def test_without_a_suggestion_to_believe_nothing_is_corrected():
    nothing = pack_mask(np.zeros(ROWS, dtype=np.bool_))
    measures = make_noise(sure_mask=nothing, corrections=[])

    assert "suspects corrected" not in keys(make_subject(), measures)


def test_smoothing_must_gain_through_the_labels_that_are_dropped():
    [mend] = [
        m for m in LabelNoise().mends(make_subject(), make_noise()) if "smooth" in m.key
    ]

    assert mend.patch == {"loss": {"label_smoothing": 0.2}}
    assert mend.changes[1:] == mend.control[1:]
    assert mend.control[0] != mend.changes[0]


def test_the_report_holds_suspects_and_not_masks():
    measures = make_noise(transition_matrix=MATRIX)
    finding = LabelNoise().judge(make_subject(), Case(measures=measures))

    values = finding.evidence[0].values
    assert "suspects" in values
    long = {"corrections", "transition_matrix"}
    assert not [key for key in values if "mask" in key or key in long]


def make_material(seed: int = 0) -> Material:
    """Three classes apart from each other, a sixth of them mislabelled."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, ROWS + 60)
    x = (np.eye(3)[y] * 4 + rng.standard_normal((len(y), 3))).astype(np.float32)
    given = np.where(np.arange(len(y)) % 6 == 0, (y + 1) % 3, y)
    given[ROWS:] = y[ROWS:]
    train = Split(x[:ROWS], given[:ROWS], np.arange(ROWS), "train")
    held = Split(x[ROWS:], given[ROWS:], np.arange(60), "test")
    dataset = Dataset({"train": train, "test": held}, ("a", "b", "c"), (), "table")
    material: Any = Material.__new__(Material)
    for name, value in (("train", train), ("decide", held), ("dataset", dataset)):
        object.__setattr__(material, name, value)
    return material


def material_of(train: Split) -> Material:
    dataset = Dataset({"train": train}, ("a", "b", "c"), (), "table")
    material: Any = Material.__new__(Material)
    for name, value in (("train", train), ("dataset", dataset)):
        object.__setattr__(material, name, value)
    return material


def view_after(changes: tuple[DataChange, ...], material: Material) -> View:
    everything = np.arange(ROWS)
    view = View(np.ones(ROWS, dtype=np.bool_), material.train.y.copy())
    for change in changes:
        view = changed_view(
            view, change, material=material, base=everything, seed=0, steps={}
        )
    return view


def test_training_after_the_mends_sees_what_the_report_lists():
    material = make_material()
    values = noise.measure(material, {})
    mends = LabelNoise().mends(make_subject(), {"noise": values})
    dropped, corrected = (
        next(m for m in mends if m.key == f"suspects {what}")
        for what in ("dropped", "corrected")
    )

    without = view_after(dropped.changes, material)
    instead = view_after(corrected.changes, material)

    given, names = material.train.y, ("a", "b", "c")
    listed = {one["row"]: one for one in values["suspects"]}
    assert set(np.flatnonzero(~without.kept)) == set(listed)
    for row, suspect in listed.items():
        assert suspect["given"] == names[given[row]]
        assert instead.kept[row] == suspect["sure"]
        if suspect["sure"]:
            assert names[instead.labels[row]] == suspect["suggested"]
    others = [row for row in range(ROWS) if row not in listed]
    assert (instead.labels[others] == given[others]).all()
    assert instead.kept[others].all()


def test_what_may_well_be_wrong_is_left_out_where_there_is_much_of_it():
    rng = np.random.default_rng(0)
    material = make_material()
    overlapping = material.train.x + rng.normal(0, 1.5, material.train.x.shape)
    split = replace(material.train, x=overlapping.astype(np.float32))
    object.__setattr__(material, "train", split)
    # Held-out rows are too few here to tell anything.
    object.__setattr__(material, "decide", choose(material.decide, np.arange(20)))

    values = noise.measure(material, {})

    kept = ~unpack_flags(values["mask"], ROWS)
    columns, held_out = noise.columns_of(material, split)
    doubts = doubt(columns, split.y, 3, held_out=held_out, most=5_000)
    assert values["doubtful"] > 0
    assert (doubts.mistakes.right[kept] >= 0.8).all()
    assert not kept[doubts.suspects(split.y)].any()
    assert values["doubtful"] >= noise.MANY * values["suspected"]


def test_rows_that_judge_the_remedy_have_no_part_in_doubting_labels():
    material = make_material()
    shuffled = replace(
        material.decide, x=material.decide.x[::-1] * 9, y=material.decide.y[::-1]
    )
    other = make_material()
    object.__setattr__(other, "final", shuffled)

    first, second = (noise.measure(each, {}) for each in (material, other))

    assert json.dumps(first) == json.dumps(second)


def test_suspects_are_either_corrected_or_dropped():
    values = noise.measure(make_material(), {})

    masks = [unpack_flags(values[f"{k}mask"], ROWS) for k in ("", "sure_", "unsure_")]
    assert (masks[0] == (masks[1] ^ masks[2])).all()
    assert len(values["corrections"]) == masks[1].sum()
    assert values["doubtful"] < noise.MANY * values["suspected"]
    assert values["suspected"] == masks[0].sum() > 0


def test_a_class_that_is_always_mistaken_leaves_a_matrix_that_a_recipe_takes():
    matrix = np.full((50, 50), 0.02046)  # rounded up, these alone exceed 1
    np.fill_diagonal(matrix, 0.001)

    rows = noise.rounded(matrix)

    assert Loss(transition_matrix=rows).transition_matrix == rows
    assert rows[0][0] >= 0


def test_a_second_look_flags_what_the_network_contradicts():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, ROWS)
    wrong = rng.random(ROWS) < 0.2
    given = np.where(wrong, (true + 1) % 3, true)
    said = np.full((ROWS, 3), 0.01)
    said[np.arange(ROWS), true] = 0.98
    said[:10] = np.nan  # never left out by the network
    split = Split(rng.standard_normal((ROWS, 2)), given, np.arange(ROWS), "train")
    material = material_of(split)
    first = np.zeros(ROWS, dtype=np.bool_)
    first[[3, 50]] = True

    values = noise.second_look(material, said, pack_mask(first))

    expected = wrong.copy()
    expected[:10] = first[:10]  # only there the first look counts
    flags = unpack_flags(values["mask"], ROWS)
    assert (flags == expected).mean() > 0.98
    assert flags[3]
    assert not flags[50] or wrong[50]
    assert values["rate"]["value"] == pytest.approx(0.2, abs=0.06)
    sure = unpack_flags(values["sure_mask"], ROWS)
    assert (np.array(values["corrections"]) == true[sure]).all()
    listed = {one["row"] for one in values["suspects"]}
    assert listed <= set(np.flatnonzero(wrong))


def test_a_network_that_guesses_flags_nothing():
    rng = np.random.default_rng(0)
    given = rng.integers(0, 3, ROWS)
    split = Split(rng.standard_normal((ROWS, 2)), given, np.arange(ROWS), "train")

    values = noise.second_look(
        material_of(split), rng.dirichlet([1, 1, 1], ROWS), mask=None
    )

    assert values == {"notes": []}


def test_the_report_names_the_suspects_of_both_looks():
    measures = make_noise()
    again = {"suspected": 12, "suspects": [{"row": 3}], "mask": "x", "unsure_mask": "y"}

    finding = LabelNoise().judge(
        make_subject(), Case(measures={**measures, "second_look": again})
    )

    kinds = [e for e in finding.evidence if e.kind == "suspected_labels"]
    assert len(kinds) == 2
    assert "12 labels" in kinds[1].statement
    assert kinds[1].values == {"suspected": 12, "suspects": [{"row": 3}]}


@pytest.mark.parametrize(
    ("contradicted", "primary"),
    [(0.51, Cause.LEARNING_RATE_TOO_HIGH), (0.2, Cause.LABEL_NOISE)],
)
def test_labels_that_are_not_called_wrong_explain_no_other_gain(contradicted, primary):
    """A lower rate brings most of what leaving them out does."""
    rows = 1_200
    masks = {
        name: pack_mask(np.arange(rows) % 7 == 0)
        for name in ("mask", "random_mask", "sure_mask", "unsure_mask")
    }
    measures = make_noise(counts={"contradicted": contradicted}, **masks)

    def effect(arm):
        slower = any(step in arm.name for step in ("lr=0.0003", "lr=0.0001"))
        return max(0.12 * ("suspects dropped" in arm.name), 0.1 * slower)

    world = World(make_subject(), base=0.7, effect=effect, measures=measures)

    report = conclude(world.subject, world.audit(), HEADER)

    verdicts = {finding.cause: finding.verdict for finding in report.findings}
    assert report.primary_cause is primary
    assert verdicts[primary] == "found"
    if primary is not Cause.LABEL_NOISE:
        assert verdicts[Cause.LABEL_NOISE] == "suspected"
        assert Cause.LABEL_NOISE not in report.explained_by.values()


@pytest.mark.parametrize(
    ("low", "errs", "p_value", "order", "verdict"),
    [
        (0.28, 0.04, 0.6, 0.0, "found"),
        (0.05, 0.04, 0.6, 0.0, "not_found"),  # too few to be sure
        (0.28, 0.25, 0.6, 0.0, "not_found"),  # of a learner that knows little
        (0.28, 0.04, 1e-6, 0.0, "not_found"),  # of inputs that moved
        (0.28, 0.04, 0.6, 0.3, "not_found"),  # of classes that are numbered otherwise
    ],
)
def test_held_out_labels_that_alone_are_wrong_are_named(
    low, errs, p_value, order, verdict
):
    measures = make_noise(
        rate={"value": 0.001, "low": 0.0, "high": 0.005},
        counts={"contradicted": errs},
        held_out={"value": low + 0.05, "low": low, "high": low + 0.1, "shown": 1.0},
    )
    measures["shift"] = {"p_value": p_value}
    measures["label_order"] = {"gain": {"value": order, "standard_error": 0.01}}

    finding = LabelNoise().judge(make_subject(), Case(measures=measures))

    assert finding.verdict == verdict
    assert ("of the held-out labels are wrong" in finding.summary) is (
        verdict == "found"
    )
    if verdict == "found":
        assert finding.severity in ("major", "critical")
        assert "28 % at least" in finding.evidence[-1].statement


@pytest.mark.parametrize(("alike", "verdict"), [(0.5, "found"), (0.67, "not_found")])
def test_samples_of_a_class_that_was_rare_are_no_wrong_labels(alike, verdict):
    """Trained on 97 to 3, deployed on halves: most of the rare class is missed."""
    measures = make_noise(
        rate={"value": 0.001, "low": 0.0, "high": 0.005},
        counts={"contradicted": 0.02},
        held_out={"value": 0.31, "low": 0.27, "high": 0.35, "shown": 1.0},
    )
    measures["shift"] = {
        "p_value": 0.6,
        "any_class": {"value": alike, "p_value": 0.5 if alike == 0.5 else 1e-9},
        "label_shift": {"p_value": 1e-12, "distance": 0.47},
    }

    finding = LabelNoise().judge(make_subject(), Case(measures=measures))

    assert finding.verdict == verdict
