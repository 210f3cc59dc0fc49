"""Label noise: a measurable share of the training labels is wrong.

Idea:      a model which never saw a row seldom contradicts a correct label. The share
           is estimated out of fold; then training without the suspects, or with the
           labels that can be believed instead, must beat training without as many
           random rows of each class. Some wrong labels are never suspected; smoothed
           labels keep these from being learned by heart. Where a class is mistaken for
           one other, a loss that knows so must beat one that expects any mistake;
           held-out labels tell where that is so often that it looks like overlap.
Source:    Northcutt et al. 2021, Confident Learning, arXiv:1911.00068; margins over
           early epochs: Pleiss et al. 2020, arXiv:2001.10528; smoothing: Lukasik et al.
           2020, Does label smoothing mitigate label noise?, arXiv:2003.02819; forward
           correction: Patrini et al. 2017, arXiv:1609.03683.
           Where the classes overlap more than labels are thought wrong, nobody can tell
           one from the other, and the cause is suspected at most.
Blind to:  mistakes that follow the features, or that are often of one class for one
           other and in held-out labels, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import JsonValue

from service.contract.causes import Cause
from service.contract.report import Evidence, Finding, Recommendation
from worker.engine.check import (
    Case,
    Measures,
    Mend,
    clear,
    found_in_delivery,
    judge_gain,
    least_noise_rate,
    noise_rate,
    pair_of,
    points,
    seen_of_gains,
    undecided,
)
from worker.engine.doubted_labels import (
    SECOND_LOOK,
    corrected,
    dropped,
    moved_back,
    without_run,
)
from worker.engine.lab.experiment import Change, DataChange, RecipeChange
from worker.engine.stats.decisions import Floors, severity_of
from worker.engine.subject import Subject
from worker.engine.sweeps import SMOOTHING, smoothed_labels
from worker.engine.symptoms import SURELY, inputs_alike, mix_moved

_LONG = (
    "mask",
    "random_mask",
    "sure_mask",
    "unsure_mask",
    "corrections",
    "transition_matrix",
    "run_mask",
    "run_random_mask",
    "moved_mask",
    "unmoved_mask",
    "moved_labels",
)
_AS_WRONG = (
    "Where held-out labels are as often wrong, right ones bring more than can be seen."
)
_WHERE_OTHERS = ", read as held-out labels have it, which differ there"


@dataclass(frozen=True)
class LabelNoise:
    """Retrain without the suspects."""

    cause: ClassVar[Cause] = Cause.LABEL_NOISE

    tolerated_share: float = (
        0.04  # of the labels; cross-fitting sees about 2 % in clean
    )
    least_surely: float = 0.02  # of the labels, that the interval must lie above
    certain_share: float = 0.1  # likewise; so many are a fault whatever they cost
    most_dropped: float = 0.6
    aimed: float = 0.4  # of the mistakes, at one other class; from these on it pays

    def obstacle(self, subject: Subject) -> str | None:
        """Any labels can be doubted."""
        return None

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """Drop, correct, drop and smooth, or expect the mistakes."""
        noise = measures.get("noise", {})
        random_mask, suspects = noise.get("random_mask"), dropped(noise)
        rate = noise_rate(measures)
        if not suspects or not isinstance(random_mask, str):
            return []
        if rate < self.tolerated_share or rate > self.most_dropped:
            return []
        if least_noise_rate(measures) < self.least_surely:
            return []
        text = f"Review the {100 * rate:.0f} % of the labels that are suspect"
        random = DataChange(name="drop", mask=random_mask)
        plain = Mend(
            cause=self.cause,
            key="suspects dropped",
            text=f"{text}; correct or drop them",
            changes=suspects,
            control=(random,),
            control_name="random rows dropped",
            urgent=True,
            evident=True,
        )
        found = [plain]
        if changes := corrected(noise):
            found.append(replace(plain, key="suspects corrected", changes=changes))
        found += _of_a_run(plain, noise)
        if smoothed := smoothed_labels(subject.recipe):
            found.append(
                replace(
                    plain,
                    key="suspects dropped, labels smoothed",
                    text=f"{text}; correct or drop them, and smooth the labels that "
                    f"are left by {SMOOTHING:g}",
                    changes=(*suspects, smoothed),
                    control=(random, smoothed),
                    control_name="random rows dropped, labels smoothed",
                    late_control=True,
                )
            )
        expected = _expected(subject, noise)
        if expected and _aimed_share(noise) >= self.aimed:
            change, control = expected
            found.append(
                replace(
                    plain,
                    key="mistakes expected by the loss",
                    text=f"{text}; until they are corrected, tell the loss which "
                    "labels are mistaken for which (its transition matrix)",
                    changes=(change,),
                    control=(control,),
                    control_name="mistakes to any class expected",
                )
            )
        return found

    def judge(self, subject: Subject, case: Case) -> Finding:
        """Without the suspects against without random rows."""
        noise = case.measures.get("noise")
        if not noise or "rate" not in noise:
            return undecided(self.cause, "The labels were not cross-checked.")
        rate = noise_rate(case.measures)
        evidence = [
            Evidence(
                kind="suspected_labels",
                statement=f"About {100 * rate:.1f} % of the training labels are "
                "contradicted by models that never saw them"
                f"{_WHERE_OTHERS if noise.get('by_held_out') else ''}; "
                f"{_others(noise.get('doubtful'))}.{_said_of_a_run(noise)}",
                values={key: value for key, value in noise.items() if key not in _LONG},
            )
        ]
        if self._held_out_alone(case.measures):
            return self._of_held_out(noise, evidence)
        if (shown := seen_of_gains(case.measures)) < 1:
            wrong = noise.get("held_out")
            evidence.append(
                Evidence(
                    kind="wrong_held_out_labels",
                    statement="Of the held-out labels about as many are wrong, so that "
                    f"they show {100 * shown:.0f} % of what any change gains.",
                    values=wrong if isinstance(wrong, dict) else {},
                )
            )
        if again := case.measures.get(SECOND_LOOK):
            evidence.append(
                Evidence(
                    kind="suspected_labels",
                    statement="A second look, by the network itself once it was "
                    f"mended, contradicts {again.get('suspected', 0)} labels.",
                    values={k: value for k, value in again.items() if k not in _LONG},
                )
            )
        if rate > self.most_dropped:
            return undecided(
                self.cause,
                f"Models that never saw them contradict {100 * rate:.0f} % of the "
                "labels: they have not learned these data, so they cannot tell.",
                evidence=evidence,
            )
        measures = case.measures
        if case.trial is None and mix_moved(measures) and inputs_alike(measures):
            return undecided(
                self.cause,
                "Training and held-out data hold other shares of the classes though "
                "their inputs are alike: labels of one may be wrong, so often in some "
                "classes that it looks like overlap of these.",
                evidence=evidence,
            )
        if case.trial is None and not case.gaps:
            return clear(
                self.cause,
                f"About {100 * rate:.1f} % of the labels are contradicted "
                f"({100 * least_noise_rate(case.measures):.1f} % at least), no more "
                "than clean data show.",
                evidence=evidence,
            )
        return self._tried(case, noise, evidence)

    def _held_out_alone(self, measures: Measures) -> bool:
        """Whether held-out labels are wrong that training labels contradict.

        A learner tells it that errs little on training rows that it did not see, where
        inputs of both parts are alike; other numbers of the classes are no mistakes.
        """
        noise, shift = measures.get("noise", {}), measures.get("shift", {})
        wrong, counts = noise.get("held_out"), noise.get("counts")
        low = wrong.get("low") if isinstance(wrong, dict) else None
        errs = counts.get("contradicted") if isinstance(counts, dict) else None
        p_value = shift.get("p_value")
        order = pair_of(measures.get("label_order", {}).get("gain"))
        renumbered = order is not None and order.low > 0
        return (
            isinstance(low, int | float)
            and low >= noise_rate(measures) + self.certain_share
            and isinstance(errs, int | float)
            and errs <= self.certain_share
            and isinstance(p_value, int | float)
            and p_value > SURELY
            and not renumbered
            # Of a class that was rare in training, more are missed where it is not.
            and (inputs_alike(measures) or not mix_moved(measures))
        )

    def _of_held_out(
        self, noise: Mapping[str, JsonValue], evidence: list[Evidence]
    ) -> Finding:
        """Name wrong held-out labels: no retraining mends a score that they spoil."""
        wrong = noise.get("held_out")
        values = wrong if isinstance(wrong, dict) else {}
        share, least = (float(str(values.get(key))) for key in ("value", "low"))
        evidence.append(
            Evidence(
                kind="wrong_held_out_labels",
                statement=f"Of the held-out labels {100 * share:.0f} % "
                f"({100 * least:.0f} % at least) are contradicted by models that "
                "learned the training labels, beyond what these err on training rows "
                "that they never saw. The inputs of both parts are alike.",
                values=values,
            )
        )
        return found_in_delivery(
            self.cause,
            None,
            summary=f"About {100 * share:.0f} % of the held-out labels are wrong; "
            "training labels are not. The score says less of the model than of these.",
            text="Compare how the labels of both parts were given, review the held-out "
            "ones, and audit again.",
            evidence=evidence,
            method="",
        ).model_copy(update={"severity": severity_of(share)})

    def _tried(
        self, case: Case, noise: Mapping[str, JsonValue], evidence: list[Evidence]
    ) -> Finding:
        """What their gain says, and what it does not."""
        rate = noise_rate(case.measures)
        # What is left once they are dropped does not bring what right labels would.
        is_certain = least_noise_rate(case.measures) >= self.certain_share
        floors, shown = Floors(), seen_of_gains(case.measures)
        finding = judge_gain(
            self,
            case,
            says=f"About {100 * rate:.0f} % of the training labels are wrong",
            evidence=evidence,
            fault=(floors.material if is_certain else floors.fault) * shown,
        )
        if case.trial is None:
            return finding
        is_named = finding.verdict in ("found", "suspected")
        if is_certain and noise.get("by_held_out") and not is_named:
            return _as_held_out_tell(finding, case.trial.mend, rate)
        if is_certain and finding.verdict == "inconclusive":
            reason = f"{finding.summary} {_AS_WRONG}"
            return finding.model_copy(update={"summary": reason, "reason": reason})
        # A mix of classes that moved though inputs did not tells of wrong labels, too.
        is_moved = mix_moved(case.measures) and inputs_alike(case.measures)
        is_overlap = _is_rather_overlap(noise, rate) and not is_moved
        if finding.verdict == "found" and is_overlap:
            summary = (
                f"{case.trial.mend.text}: {points(case.trial.gain.value)} balanced "
                "accuracy. Whether these labels are wrong cannot be told: the classes "
                "overlap, so that models that never saw them contradict still more."
            )
            return finding.model_copy(
                update={"verdict": "suspected", "summary": summary}
            )
        if finding.verdict == "not_found" and is_certain:
            reason = (
                f"About {100 * rate:.0f} % of the training labels are contradicted by "
                "models that never saw them, yet leaving these out or correcting them "
                "brought no gain: whether they are wrong or hard cannot be told."
            )
            update = {"verdict": "inconclusive", "reason": reason, "summary": reason}
            return finding.model_copy(update=update)
        return finding


def _as_held_out_tell(finding: Finding, tried: Mend, rate: float) -> Finding:
    """Suspect what held-out labels tell, though no mend of it is proven to gain."""
    summary = (
        f"About {100 * rate:.0f} % of the training labels are wrong{_WHERE_OTHERS}. "
        f"{finding.summary}"
    )
    return finding.model_copy(
        update={
            "verdict": "suspected",
            "severity": "major",
            "summary": summary,
            "reason": None,
            "recommendation": Recommendation(text=f"{tried.text}."),
        }
    )


def _is_rather_overlap(noise: Mapping[str, JsonValue], rate: float) -> bool:
    """Whether most contradicted labels are thought right, as where classes overlap.

    Held-out labels that differ from the training ones tell that these are wrong.
    """
    counts = noise.get("counts")
    share = counts.get("contradicted") if isinstance(counts, dict) else None
    if not isinstance(share, float) or noise.get("by_held_out"):
        return False
    return rate < share - rate


def _of_a_run(plain: Mend, noise: Mapping[str, JsonValue]) -> list[Mend]:
    """Leave out rows that stand together, or give them their neighbours' labels."""
    run = noise.get("run")
    without, control = without_run(noise)
    if not isinstance(run, dict) or not without:
        return []
    which = f"the labels of the training rows {run.get('first')} to {run.get('last')}"
    found = [
        replace(
            plain,
            key="run of rows dropped",
            text=f"Review {which}; correct or drop them",
            changes=without,
            control=control,
            control_name="as many random rows dropped",
        )
    ]
    if back := moved_back(noise):
        late = "late" if run.get("moved_by") == 1 else "early"
        found.append(
            replace(
                found[0],
                key="run of labels moved",
                text=f"Correct {which}, which stand one row too {late}",
                changes=back,
            )
        )
    return found


def _said_of_a_run(noise: Mapping[str, JsonValue]) -> str:
    """Say which rows stand together that are contradicted far more than others."""
    run = noise.get("run")
    if not isinstance(run, dict):
        return ""
    inside, outside = (
        100 * float(str(run.get(name))) for name in ("contradicted", "elsewhere")
    )
    text = (
        f" Of the rows {run.get('first')} to {run.get('last')} {inside:.0f} % are "
        f"contradicted, of the others {outside:.0f} %"
    )
    if run.get("moved_by"):
        text += "; the labels of the rows beside them fit, as if they had slipped"
    return f"{text}."


def _others(doubtful: JsonValue) -> str:
    """Say how many labels that nothing contradicts may yet be wrong."""
    if not isinstance(doubtful, int) or not doubtful:
        return "no other is doubtful"
    return "1 other is doubtful" if doubtful == 1 else f"{doubtful} others are doubtful"


def _aimed_share(noise: Mapping[str, JsonValue]) -> float:
    """How far mistakes of a class go to one other class: fraction."""
    aimed = noise.get("aimed")
    return float(aimed) if isinstance(aimed, int | float) else 0.0


def _expected(
    subject: Subject, noise: Mapping[str, JsonValue]
) -> tuple[Change, Change] | None:
    """Tell the loss the mistakes, or as many of any class to any other one."""
    matrix, loss = noise.get("transition_matrix"), subject.recipe.loss
    can = loss.name == "cross_entropy" and loss.transition_matrix is None
    if not can or not isinstance(matrix, list):
        return None
    if subject.network.outputs != len(matrix):
        return None
    rows = [[float(str(p)) for p in row] for row in matrix if isinstance(row, list)]
    # Alike for all: a class that is hardly ever given its own name tells who it is.
    kept = sum(row[k] for k, row in enumerate(rows)) / len(rows)
    apart = (1 - kept) / (len(rows) - 1)
    even = [
        [kept if k == j else apart for j, _ in enumerate(rows)]
        for k, _ in enumerate(rows)
    ]
    made, control = (
        RecipeChange(patch={"loss": {"transition_matrix": one}}) for one in (rows, even)
    )
    return made, control
