"""Reports built by hand, as an audit would write them."""

import math
from typing import Any

from service.contract.causes import BY_CAUSE, Cause
from service.contract.recipe import Loss, Optimizer, Recipe
from service.contract.report import (
    CalibrationBin,
    ClassScore,
    Environment,
    Evidence,
    Finding,
    Gain,
    Gate,
    Interval,
    Performance,
    RecipeUsed,
    Recommendation,
    Remedy,
    RemedyScores,
    Report,
    ReportArm,
    ReportExperiment,
    Scores,
    Segment,
)

RATES = (0.0005, 0.005, 0.015, 0.05, 0.15, 0.5)
HELD_OUT = (0.31, 0.86, 0.944, 0.967, 0.941, 0.612)


def make_interval(value: float, half: float = 0.02) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def make_scores(*, accuracy: float = 0.63, split: str = "val", n: int = 360) -> Scores:
    names = [str(digit) for digit in range(10)]
    recalls = [max(0.05, min(0.99, accuracy + 0.05 * (k % 5 - 2))) for k in range(10)]
    confusion = [
        [round(36 * r) if c == k else round(36 * (1 - r) / 9) for c in range(10)]
        for k, r in enumerate(recalls)
    ]
    return Scores(
        split=split,
        n=n,
        accuracy=make_interval(accuracy, 0.047),
        balanced_accuracy=make_interval(accuracy - 0.01, 0.046),
        macro_f1=make_interval(accuracy - 0.02, 0.05),
        log_loss=make_interval(1.42, 0.2),
        ece=make_interval(0.113, 0.03),
        per_class=[
            ClassScore(
                name=name,
                n=36,
                recall=make_interval(recall, 0.08),
                precision=make_interval(recall, 0.08),
            )
            for name, recall in zip(names, recalls, strict=True)
        ],
        confusion=confusion,
        confusion_classes=names,
        calibration=[
            CalibrationBin(
                low=k / 10,
                high=(k + 1) / 10,
                n=40,
                confidence=k / 10 + 0.05,
                accuracy=max(0.0, k / 10 + 0.05 - 0.12 * k / 10),
            )
            for k in range(2, 10)
        ],
        segments=[
            Segment(
                where="pixel_4_3 < 2.0",
                n=84,
                accuracy=make_interval(0.41, 0.12),
                elsewhere=0.69,
            ),
            Segment(
                where="class 8",
                n=33,
                accuracy=make_interval(0.36, 0.15),
                elsewhere=0.66,
            ),
        ],
    )


def make_finding(cause: Cause = Cause.LABEL_NOISE, **fields: Any) -> Finding:
    entry = BY_CAUSE[cause]
    given: dict[str, Any] = {
        "verdict": "not_found",
        "summary": "Mending it brings +0.2 points: no material gain.",
        "confidence": 0.97,
        "gain": Gain(value=0.002, low=-0.011, high=0.014, seeds=3),
        "docs": entry.docs,
        **fields,
    }
    return Finding(cause=cause, group=entry.group, **given)


def make_rate_finding(**fields: Any) -> Finding:
    given: dict[str, Any] = {
        "verdict": "found",
        "severity": "critical",
        "confidence": 0.999,
        "summary": "The learning rate 0.5 is too high. Lower the learning rate from "
        "0.5 to 0.05: +35.2 points balanced accuracy.",
        "gain": Gain(value=0.352, low=0.311, high=0.391, seeds=6),
        "evidence": [
            Evidence(
                kind="training_signs",
                statement="The loss oscillates by 0.31; 17 % of the repeats diverge.",
                values={"oscillation": 0.31, "diverged_share": 0.17},
            )
        ],
        "recommendation": Recommendation(
            text="Lower the learning rate from 0.5 to 0.05.",
            recipe_patch={"optimizer": {"lr": 0.05}},
        ),
        "experiments": ["exp_2"],
        **fields,
    }
    return make_finding(Cause.LEARNING_RATE_TOO_HIGH, **given)


def make_findings() -> list[Finding]:
    special = {
        Cause.LEARNING_RATE_TOO_HIGH: make_rate_finding(),
        Cause.UNSUITABLE_OPTIMIZER: make_finding(
            Cause.UNSUITABLE_OPTIMIZER,
            verdict="suspected",
            severity="critical",
            summary="Mending it alone brings +34.0 points, but nothing once "
            "`learning_rate_too_high` is mended.",
            gain=Gain(value=0.34, low=0.29, high=0.39, seeds=6),
            recommendation=Recommendation(
                text="Use adam at 0.001.",
                recipe_patch={"optimizer": {"name": "adam", "lr": 0.001}},
            ),
        ),
        Cause.LABEL_NOISE: make_finding(
            Cause.LABEL_NOISE,
            verdict="found",
            severity="minor",
            summary="About 6 % of the labels are wrong; without them: +1.9 points.",
            gain=Gain(value=0.019, low=0.011, high=0.028, seeds=6),
            evidence=[
                Evidence(
                    kind="suspected_labels",
                    statement="78 labels are suspected; the 60 surest are listed.",
                    values={
                        "rate": 0.06,
                        "suspects": [
                            {
                                "index": 17 * k % 1437,
                                "given": str(k % 10),
                                "suggested": str((k + 3) % 10),
                                "score": round(0.999 - 0.004 * k, 3),
                            }
                            for k in range(60)
                        ],
                    },
                )
            ],
            recommendation=Recommendation(text="Review the listed suspects."),
        ),
        Cause.INSUFFICIENT_DATA: make_finding(
            Cause.INSUFFICIENT_DATA,
            verdict="inconclusive",
            confidence=0.5,
            summary="Twice the data would bring +1.1 points, between -0.4 and +2.7.",
            reason="The interval of the extrapolation holds both zero and the floor.",
            gain=Gain(value=0.011, low=-0.004, high=0.027, seeds=3),
            evidence=[
                Evidence(
                    kind="learning_curve",
                    statement="The curve still rises at all of the data.",
                    values={
                        "rows": [359, 718, 1437],
                        "against_all": [-0.062, -0.027, 0.0],
                        "predicted_at_double": [0.011, -0.004, 0.027],
                        "predicted_at_fourfold": [0.016, -0.009, 0.042],
                    },
                )
            ],
        ),
        Cause.UNSUITABLE_LAYERS: make_finding(
            Cause.UNSUITABLE_LAYERS,
            verdict="not_applicable",
            summary="Not judged: the data is a table.",
            reason="the data is a table",
            gain=None,
            check="skipped",
        ),
    }
    findings = [special.get(cause) or make_finding(cause) for cause in Cause]
    return sorted(findings, key=lambda f: -(f.gain.value if f.gain else -1.0))


def make_curves(best: float, *, swings: float = 0.0) -> dict[str, list[float | None]]:
    epochs = [float(k) for k in range(1, 21)]
    score = [best * (1 - math.exp(-e / 4)) + swings * math.sin(2.4 * e) for e in epochs]
    return {
        "epoch": list(epochs),
        "train_loss": [2.3 * math.exp(-e / 5) + 0.1 + abs(swings) for e in epochs],
        "train_accuracy": [min(1.0, s + 0.02) for s in score],
        "eval_loss": [2.3 * math.exp(-e / 5) + 0.2 + abs(swings) for e in epochs],
        "eval_balanced_accuracy": list(score),
    }


def make_experiments() -> list[ReportExperiment]:
    sweep = [
        ReportArm(
            name="baseline" if rate == RATES[-1] else f"lr={rate:g}",
            changes=[]
            if rate == RATES[-1]
            else [{"kind": "recipe", "patch": {"optimizer": {"lr": rate}}}],
            seeds=[11, 12, 13, 14, 15, 16],
            metrics={
                "balanced_accuracy": score,
                "train_accuracy": min(1.0, score + 0.03),
            },
            curves=make_curves(score, swings=0.12 if rate == RATES[-1] else 0.0),
        )
        for rate, score in zip(RATES, HELD_OUT, strict=True)
    ]
    return [
        ReportExperiment(
            id="exp_1",
            kind="measurement",
            question="How does the delivered model do?",
            round="inspect",
            values={"accuracy": 0.63},
            seconds=0.4,
        ),
        ReportExperiment(
            id="exp_2",
            kind="training",
            question="Which learning rate is best?",
            round="confirm",
            arms=sweep,
            seconds=14.2,
        ),
    ]


def make_remedy() -> Remedy:
    return Remedy(
        recipe=Recipe(optimizer=Optimizer(name="sgd", lr=0.05), epochs=20),
        steps=[
            "Lower the learning rate from 0.5 to 0.05.",
            "Drop 78 suspected labels.",
        ],
        before=RemedyScores(
            balanced_accuracy=make_interval(0.612), accuracy=make_interval(0.63)
        ),
        after=RemedyScores(
            balanced_accuracy=make_interval(0.971, 0.01),
            accuracy=make_interval(0.972, 0.01),
        ),
        gain=Gain(value=0.359, low=0.31, high=0.41, seeds=6),
        judged_on="180 samples that no decision had looked at",
    )


def make_report(**fields: Any) -> Report:
    """Build the report of a digits classifier trained with too high a rate."""
    given: dict[str, Any] = {
        "audit_id": "aud_01k6z8yq0v4d5s6t7u8w9x0y1z",
        "model": {"id": "mdl_1", "name": "digits.pt", "parameters": 12_810},
        "dataset": {"id": "dst_1", "name": "digits.npz", "rows": 1797},
        "recipe": RecipeUsed(
            given=Recipe(
                optimizer=Optimizer(name="sgd", lr=0.5),
                loss=Loss(name="cross_entropy"),
                epochs=20,
            ),
            assumed={"batch_size": 32, "optimizer.momentum": 0.0, "sampler": "shuffle"},
        ),
        "environment": Environment(
            engine="1", torch="2.10.0", device="cpu", seed=0, sandbox="strong"
        ),
        "performance": Performance(
            train=make_scores(accuracy=0.66, split="train", n=1437), eval=make_scores()
        ),
        "findings": make_findings(),
        "primary_cause": Cause.LEARNING_RATE_TOO_HIGH,
        "equivalent": [Cause.UNSUITABLE_OPTIMIZER],
        "explained_by": {Cause.UNSUITABLE_OPTIMIZER: Cause.LEARNING_RATE_TOO_HIGH},
        "remedy": make_remedy(),
        "experiments": make_experiments(),
        "gate": Gate(
            passed=False,
            reasons=["learning_rate_too_high was found (critical)."],
        ),
        "timings": {"inspect": 1.2, "screen": 14.0, "confirm": 21.5, "total": 46.1},
        "limits": ["A hostile model could forge its own report."],
        **fields,
    }
    return Report(**given)


def make_healthy_report(**fields: Any) -> Report:
    """Build the report of a model in which nothing was found."""
    given: dict[str, Any] = {
        "findings": [make_finding(cause) for cause in Cause],
        "primary_cause": None,
        "equivalent": [],
        "explained_by": {},
        "remedy": None,
        "performance": Performance(
            train=make_scores(accuracy=0.99, split="train"),
            eval=make_scores(accuracy=0.97),
        ),
        "gate": Gate(passed=True),
        **fields,
    }
    return make_report(**given)
