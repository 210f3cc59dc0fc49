"""From what an audit learned to its report."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.contract.causes import CATALOGUE, Cause
from service.contract.report import (
    Environment,
    Finding,
    Gate,
    Performance,
    RecipeUsed,
    Remedy,
    Report,
    Scores,
    Segment,
)
from worker.engine.catalog import CATALOG
from worker.engine.check import (
    Check,
    Trial,
    delivered_score,
    flattered_by,
    undoes_the_move,
)
from worker.engine.combination import name
from worker.engine.judging import judge_all
from worker.engine.ledger import Learned
from worker.engine.mended_delivery import comes_otherwise, makes_up_for_a_move
from worker.engine.prescription import (
    bears_out,
    better_of,
    is_better,
    is_worth_giving,
    remedy_of,
    with_the_delivery,
)
from worker.engine.results import BASELINE
from worker.engine.stats.decisions import Floors, severity_of
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject
from worker.engine.transcript import as_reported, limits_of, timings_of
from worker.engine.verdicts import retrained
from worker.engine.version import ENGINE
from worker.engine.wording import FULL_LENGTH, listed

_TRAINED_OTHERWISE = (
    " That holds for the data as uploaded; in the form that the delivered model "
    "expects, it does as well without."
)
_SCORED_OTHERWISE = (
    " That was seen on held-out inputs in another form than the training's, and may be "
    "due to it."
)
_MOVED = " What moved is their form, see `preprocessing_mismatch`."
VERDICT_ORDER = ("found", "suspected", "inconclusive", "not_found", "not_applicable")
MOSTLY = 0.5  # of a gain alone, that comes on top of what is said to explain it
NEARLY_ALL = 0.9  # of what retraining gains, from which a fault of the delivery leads
FAR_WORSE = 0.1  # balanced accuracy that a recipe yields less than was delivered
# What another guess at it makes another model of.
GUESSED = ("optimizer.name", "optimizer.lr", "epochs", "batch_size")
NO_MATTER_OF_TRAINING = (
    Cause.DEGENERATE_WEIGHTS,
    Cause.LABEL_ORDER_MISMATCH,
    Cause.PREPROCESSING_MISMATCH,
    Cause.TRAINING_MODE_LEFT_ON,
    Cause.DISTRIBUTION_SHIFT,
)


def conclude(
    subject: Subject,
    learned: Learned,
    header: Mapping[str, Any],
    checks: Sequence[Check] = CATALOG,
) -> Report:
    """Let every check judge, and write the report."""
    judged, trials = judge_all(subject, learned, checks)
    delivered = delivered_score(learned.measures, "balanced_accuracy") or 0.0
    trained = remedy_of(subject, learned)
    doubt = _doubt(learned, trained)
    remedy = better_of(subject, learned, trained)
    if doubt or _trained_in_full(learned, delivered):
        judged = [_doubted(f, doubt, trials, learned) for f in judged]
    anew = retrained(learned)
    if anew is not None and (assumed := assumed_wrongly(subject, anew)):
        judged = [_of_what_is_assumed(f, assumed, trials, anew) for f in judged]
    elif anew is not None and _is_another_recipe(learned, anew):
        judged = [_of_another_recipe(f, trials) for f in judged]
    explained = {
        c: t.explained_by
        for c, t in trials.items()
        if t.explained_by and t.decision == "found" and _is_explained(t)
    }
    if misled := misled_by_the_form(judged, learned, trials, delivered):
        is_moved = any(comes_otherwise(finding) for finding in judged)
        more = _SCORED_OTHERWISE if is_moved else _TRAINED_OTHERWISE
        judged = [_of_another_form(f, more) if f.cause in misled else f for f in judged]
        explained |= dict.fromkeys(misled, Cause.PREPROCESSING_MISMATCH)
    if moved := is_moved_by_the_form(judged, learned):
        shift = Cause.DISTRIBUTION_SHIFT
        judged = [
            _of_another_form(f, _MOVED) if f.cause == shift else f for f in judged
        ]
        explained[shift] = Cause.PREPROCESSING_MISMATCH
    findings = sorted(judged, key=_order)
    primary = _primary(findings, trials)
    equivalent = [c for c, t in trials.items() if t.role == "equivalent"]
    withheld = []
    if remedy is not None and not is_worth_giving(learned, remedy, findings, primary):
        remedy = None
        withheld.append(
            "A repaired model was trained, but nothing proven stands behind it or it "
            "does no better than the delivered one; it is not given."
        )
    if remedy is not None:
        remedy = with_the_delivery(remedy, findings)
    noted = limits_of(learned, has_remedy=remedy is not None)
    if undoes_the_move(learned.measures):
        noted.append(
            "Trainings were scored on held-out inputs as given. Audit again once these "
            "come in their form, to see whether anything else is wrong."
        )
    limits = [*subject.notes, *noted, *withheld]
    return Report(
        audit_id=header["audit_id"],
        model=header["model"],
        dataset={**header["dataset"], "rows": dict(subject.data.rows)},
        recipe=RecipeUsed(given=subject.given, assumed=subject.assumed),
        environment=Environment(
            engine=ENGINE,
            torch=header["torch"],
            device=header["device"],
            seed=header["seed"],
            sandbox=header.get("sandbox", "unknown"),
        ),
        performance=_performance(learned),
        findings=findings,
        primary_cause=primary,
        equivalent=equivalent if primary in trials else [],
        explained_by=explained if primary in trials or misled or moved else {},
        remedy=remedy,
        experiments=[as_reported(entry) for entry in learned.ledger.entries],
        gate=Gate(passed=True),
        timings=timings_of(learned),
        limits=limits,
    )


def _is_explained(trial: Trial) -> bool:
    """Whether another mend makes most of a gain vanish, or takes the place of this."""
    if trial.on_top is None:
        return trial.instead
    return trial.on_top.value < MOSTLY * trial.gain.value


def _doubt(learned: Learned, remedy: Remedy | None) -> str | None:
    """What the repaired model says against what was found in training, if anything.

    What helps on a few rows, such as decay or a smaller network, need not on all. And
    of many gains that rest on the same rows the best is too good by chance; rows that
    no decision looked at do not share that luck.
    """
    if learned.subsample is not None and not bears_out(remedy):
        return (
            f"That holds for {learned.subsample} training rows; the repaired model, "
            "trained on all, does not bear it out."
        )
    if remedy is not None and not is_better(learned, remedy):
        return (
            "Yet the repaired model does no better than the delivered one on the "
            f"{remedy.judged_on}."
        )
    return None


def assumed_wrongly(subject: Subject, anew: PairedGain) -> list[str]:
    """Name fields of the recipe that were not given, where it yields worse models.

    Empty where all that counts was given, or trainings by the recipe are not surely
    worse than the delivered model.

    Args:
        subject: what is audited.
        anew: what training anew gains over the delivered model.
    """
    if anew.high >= -Floors().material:
        return []
    return [name for name in GUESSED if not subject.was_given(name)]


def _of_what_is_assumed(
    finding: Finding,
    assumed: Sequence[str],
    trials: Mapping[Cause, Trial],
    anew: PairedGain,
) -> Finding:
    """Leave open what makes good no more than a wrong guess at the recipe."""
    trial = trials.get(finding.cause)
    if finding.verdict not in ("found", "suspected") or trial is None:
        return finding
    if trial.role == "none" or trial.gain.value + anew.value >= Floors().material:
        return finding
    more = (
        f" That is against a recipe of which we assumed {listed(list(assumed))}, and "
        "the delivered model does better than that makes: tell them, to have it judged."
    )
    update = {"verdict": "inconclusive", "severity": "info"}
    return finding.model_copy(update={**update, "summary": finding.summary + more})


def _is_another_recipe(learned: Learned, anew: PairedGain) -> bool:
    """Whether the recipe yields far worse than was delivered, and mended no better.

    Then it is not what the model was trained by, or that went well by luck: what is
    wrong with the recipe is not why the model errs.
    """
    confirm, whole = learned.confirm, name(learned.chosen)
    if learned.subsample is not None or confirm is None or whole not in confirm:
        return False
    made = anew.value + confirm.gain(whole).value
    return anew.high < -FAR_WORSE and made < Floors().material


def _of_another_recipe(finding: Finding, trials: Mapping[Cause, Trial]) -> Finding:
    """Only suspect what makes good no more than the recipe lacks of the delivered."""
    trial = trials.get(finding.cause)
    if finding.verdict != "found" or trial is None or trial.role == "none":
        return finding
    more = (
        " Yet the delivered model does as well as that, and far better than the recipe "
        "yields: it was trained by another one, or that went well by luck."
    )
    update = {"verdict": "suspected", "severity": "minor"}
    return finding.model_copy(update={**update, "summary": finding.summary + more})


def _at_full_length(learned: Learned) -> float | None:
    """Balanced accuracy of the recipe on a subsample, trained as long as on all rows.

    None where all rows were trained on, or that was not tried.
    """
    screen = learned.screen
    if learned.subsample is None or screen is None or FULL_LENGTH not in screen:
        return None
    return screen.accuracy(FULL_LENGTH)


def _trained_in_full(learned: Learned, delivered: float) -> bool:
    """Whether the delivered model is what as many updates make of a subsample.

    Then what is missing to short trainings on that says nothing of it.
    """
    level = _at_full_length(learned)
    return level is not None and delivered >= level - Floors().material


def _doubted(
    finding: Finding,
    doubt: str | None,
    trials: Mapping[Cause, Trial],
    learned: Learned,
) -> Finding:
    """Take back a `found` that rests on training, and say why."""
    trial = trials.get(finding.cause)
    if finding.verdict != "found" or trial is None or trial.role == "none":
        return finding
    if _is_due_to_brevity(learned, trial):
        summary = (
            f"{finding.summary} That holds for short trainings on "
            f"{learned.subsample} rows: for as many updates as all rows take, the "
            "recipe does about as well without."
        )
        update = {"verdict": "inconclusive", "summary": summary, "severity": "info"}
        return finding.model_copy(update=update)
    return finding if doubt is None else _taken_back(finding, f" {doubt}")


def _is_due_to_brevity(learned: Learned, trial: Trial) -> bool:
    """Whether as many updates as all rows make bring a subsample about as much.

    What was gained over these already is not.
    """
    material = Floors().material
    if trial.over == FULL_LENGTH and trial.gain.value >= material:
        return False
    screen, level = learned.screen, _at_full_length(learned)
    if screen is None or level is None or BASELINE not in screen:
        return False
    more = trial.on_top.value if trial.on_top else 0.0
    by_length = level - screen.accuracy(BASELINE)
    return max(trial.gain.value, more) - by_length < material


def misled_by_the_form(
    findings: Sequence[Finding],
    learned: Learned,
    trials: Mapping[Cause, Trial],
    delivered: float,
) -> set[Cause]:
    """Causes found by training on data in another form than the model's.

    Delivered weights that, on inputs in the form that they expect, do as well as the
    best arm were trained well: what training on the data as uploaded lacks beside that
    is the form.
    """
    found = {f.cause: f for f in findings if f.verdict == "found"}
    form = found.get(Cause.PREPROCESSING_MISMATCH) or next(
        (f for f in findings if makes_up_for_a_move(f)), None
    )
    results = learned.confirm or learned.screen
    if form is None or results is None:
        return set()
    if delivered + _gain(form) < results.best - Floors().material:
        return set()
    return {cause for cause in found if cause in trials}


def is_moved_by_the_form(findings: Sequence[Finding], learned: Learned) -> bool:
    """Whether the shift that is found is that inputs came in another form."""
    found = {f.cause: f for f in findings if f.verdict == "found"}
    form = found.get(Cause.PREPROCESSING_MISMATCH)
    shift = found.get(Cause.DISTRIBUTION_SHIFT)
    if form is None or shift is None:
        return False
    wins_back = _gain(form) >= NEARLY_ALL * _gain(shift) > 0
    return wins_back or undoes_the_move(learned.measures)


def _of_another_form(finding: Finding, more: str) -> Finding:
    taken_back = _taken_back(finding, more)
    return taken_back.model_copy(update={"severity": severity_of(0.0)})


def _taken_back(finding: Finding, more: str) -> Finding:
    """Suspect what was found, and say why it is no more than that."""
    return finding.model_copy(
        update={"verdict": "suspected", "summary": finding.summary + more}
    )


def _order(finding: Finding) -> tuple[int, float, int]:
    gain = finding.gain.value if finding.gain else -1.0
    place = [entry.cause for entry in CATALOGUE].index(finding.cause)
    return VERDICT_ORDER.index(finding.verdict), -gain, place


def _primary(
    findings: Sequence[Finding], trials: Mapping[Cause, Trial]
) -> Cause | None:
    """The cause to name first.

    Held-out inputs in another form spoil whatever else is measured. What no recipe is
    to blame for, the delivered file or other data than those that it was trained on,
    comes first where it costs most; then rows in both splits, where they flatter the
    score by more than any mend brings; then what retraining showed; then what no
    retraining can mend.
    """
    found = {f.cause: f for f in findings if f.verdict == "found"}
    if not found:
        return None
    spoils_all = [
        cause
        for cause, finding in found.items()
        if cause == Cause.NO_LEARNABLE_SIGNAL or comes_otherwise(finding)
    ]
    if spoils_all:
        return spoils_all[0]
    trained = next((c for c, t in trials.items() if t.role == "primary"), None)
    trained_gain = _gain(found.get(trained)) if trained else -1.0
    broken = [c for c in NO_MATTER_OF_TRAINING if c in found]
    if broken:
        worst = max(broken, key=lambda c: _gain(found[c]))
        # Retraining makes good what the delivery spoiled, and a little more by chance.
        if _gain(found[worst]) >= NEARLY_ALL * trained_gain:
            return worst
    flattered = flattered_by(found.get(Cause.SPLIT_LEAKAGE))
    if flattered >= max(_gain(finding) for finding in found.values()) > 0:
        return Cause.SPLIT_LEAKAGE  # of what is measured it makes the most
    if trained in found:
        data = found.get(Cause.INSUFFICIENT_DATA)
        more_data_is_worth_more = data is not None and _gain(data) > trained_gain
        return Cause.INSUFFICIENT_DATA if more_data_is_worth_more else trained
    return max(found, key=lambda c: _gain(found[c]))


def _gain(finding: Finding | None) -> float:
    return finding.gain.value if finding and finding.gain else 0.0


def _performance(learned: Learned) -> Performance:
    delivered = learned.measures.get("delivered", {})
    own = delivered.get("as_it_runs")
    scores = (own if isinstance(own, dict) else delivered).get("scores")
    if not isinstance(scores, dict):
        return Performance(train=None, eval=None)
    held = Scores.model_validate(scores["held_out"])
    segments = learned.measures.get("segments", {}).get("segments")
    if isinstance(segments, list):
        held = held.model_copy(
            update={"segments": [Segment.model_validate(s) for s in segments]}
        )
    return Performance(train=Scores.model_validate(scores["train"]), eval=held)
