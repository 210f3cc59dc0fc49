"""The round `inspect`: measurements of weights, data, delivered model, and costs."""

from collections.abc import Mapping, Sequence

from service.contract.causes import Cause
from worker.engine.check import Measures, Mend
from worker.engine.lab.experiment import (
    Arm,
    Measurement,
    MeasurementOutcome,
    NetworkChange,
)
from worker.engine.ledger import Ask, Round
from worker.engine.planning import Costs, is_costly, network_key
from worker.engine.trainer import Trainer

MOST_FOR_WEIGHING = 0.01  # of the budget, for one network
# What tells whether the network can be trained at all comes first; then what takes
# longest, so that workers who share an audit end together.
INSPECTIONS = (
    "cost", "noise", "signal", "delivered", "preprocessing", "leakage", "shift",
    "segments", "inputs", "codes", "order", "label_order", "weights", "determinism",
)  # fmt: skip


def inspect(trainer: Trainer) -> Round[Measures]:
    """Measure whatever needs no training."""
    asked = tuple(
        Measurement(question=f"What does the probe {probe} see?", name=probe)
        for probe in INSPECTIONS
        if _is_of_use(probe, trainer)
    )
    answers = yield Ask("inspect", "inspecting model and data", asked)
    trainer.note(asked, answers)
    measures: Measures = {}
    for measurement in asked:
        outcome = answers[measurement.digest()]
        if isinstance(outcome, MeasurementOutcome):
            measures[measurement.name] = outcome.values
    trainer.costs = Costs.from_measure(measures.get("cost", {}))
    return measures


def _is_of_use(probe: str, trainer: Trainer) -> bool:
    """Whether a probe tells something of this subject that is asked for."""
    match probe:
        case "noise":
            return Cause.LABEL_NOISE in trainer.subject.wanted
        case "codes":
            return (
                Cause.UNSUITABLE_LAYERS in trainer.subject.wanted
                and trainer.subject.data.kind == "table"
            )
        case "order":
            return Cause.UNSUITABLE_LAYERS in trainer.subject.wanted
    return True


def weigh_networks(
    trainer: Trainer, mends: Mapping[Cause, Sequence[Mend]]
) -> Round[None]:
    """Measure what a step of the larger networks costs, where measuring is cheap."""
    most = MOST_FOR_WEIGHING * trainer.effort.seconds
    arms = [
        Arm(name=m.key, changes=m.changes)
        for options in mends.values()
        for m in options
    ]
    networks = {
        network_key(arm.changes): [
            c.model_dump(mode="json", exclude_none=True)
            for c in arm.changes
            if isinstance(c, NetworkChange)
        ]
        for arm in arms
        if is_costly(arm) and trainer.costs.of_trying(arm) <= most
    }
    # One by one, as workers can share them.
    asked = tuple(
        Measurement(
            question="What does a larger network cost?",
            name="cost",
            settings={"networks": [changes]},
        )
        for changes in networks.values()
    )
    if not asked:
        return
    answers = yield Ask("inspect", "measuring what larger networks cost", asked)
    for entry in trainer.note(asked, answers):
        relative = getattr(entry.outcome, "values", {}).get("relative")
        if isinstance(relative, dict):
            for key, value in relative.items():
                trainer.costs.relative[key] = float(str(value))
