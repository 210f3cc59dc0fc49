"""What was run, as the report shows it: experiments, arms, curves and timings."""

from typing import Any

from pydantic import JsonValue

from service.contract.report import ReportArm, ReportExperiment
from worker.engine.lab.experiment import Measurement, TrainingOutcome
from worker.engine.ledger import Entry, Learned
from worker.engine.results import figures


def as_reported(entry: Entry) -> ReportExperiment:
    """Show one experiment."""
    experiment, outcome = entry.experiment, entry.outcome
    if isinstance(experiment, Measurement) or not isinstance(outcome, TrainingOutcome):
        return ReportExperiment(
            id=entry.identity,
            kind="measurement",
            question=experiment.question,
            round=experiment.round,
            settings={"name": getattr(experiment, "name", "")},
            seconds=outcome.seconds,
        )
    arms = []
    for arm, ran in zip(experiment.arms, outcome.arms, strict=False):
        arms.append(
            ReportArm(
                name=arm.name,
                changes=[
                    c.model_dump(mode="json", exclude_none=True) for c in arm.changes
                ],
                seeds=list(experiment.seeds),
                metrics={
                    **figures(ran),
                    "parameters": ran.parameters,
                    "balanced_accuracy_by_seed": [
                        round(t.balanced_accuracy, 6) for t in ran.trials
                    ],
                    **({"failure": ran.failure} if ran.failure else {}),
                },
                curves=_curves(ran.trials[0].curve.model_dump()) if ran.trials else {},
            )
        )
    settings: dict[str, JsonValue] = {
        "rows": outcome.rows,
        "split": experiment.split,
        "rows_asked": experiment.rows,
        "folds": experiment.folds,
    }
    return ReportExperiment(
        id=entry.identity,
        kind="training",
        question=experiment.question,
        round=experiment.round,
        settings=settings,
        arms=arms,
        seconds=outcome.seconds,
    )


def timings_of(learned: Learned) -> dict[str, float]:
    """Add up seconds by round, and the steps of all trainings."""
    found: dict[str, float] = {}
    steps = 0
    for entry in learned.ledger.entries:
        stage = entry.experiment.round
        found[stage] = found.get(stage, 0.0) + entry.outcome.seconds
        if isinstance(entry.outcome, TrainingOutcome):
            steps += entry.outcome.member_steps
    return {
        **{k: round(v, 3) for k, v in found.items()},
        "experiments": round(learned.ledger.seconds, 3),
        "training_steps": float(steps),
    }


def _curves(curve: dict[str, Any]) -> dict[str, list[float | None]]:
    return {
        k: [None if v is None else round(v, 5) for v in vs] for k, vs in curve.items()
    }
