"""In which form of the inputs the delivered weights were trained.

A form in which the delivered model does better is that of its training, or one that
suits whatever the recipe learns: of inputs on too small a scale a network learns the
directions, and hits once they are stretched. So the recipe is trained on the data as
they are, and what it yields is scored in that form as well. Weights that do far better
there than all that the recipe yields were not trained on the data as they are.
"""

from pydantic import JsonValue

from worker.engine.check import Bar, Measures, missing_field, pair_of
from worker.engine.lab.experiment import Arm, DataChange
from worker.engine.ledger import Round
from worker.engine.trainer import Trainer

SEEDS = 8
SHARE_OF_LEFT = 0.1  # of the time, that it may take


def show_in_other_form(
    trainer: Trainer, measures: Measures, retrained: dict[str, float]
) -> Round[dict[str, JsonValue]]:
    """Score what the recipe yields in the form that suits the delivered model best.

    Only where the recipe is known, and does not do as well on the data as they are.

    Args:
        trainer: of the audit.
        measures: of the probes.
        retrained: figures of trainings by the recipe.

    Returns:
        `form`, and from each seed balanced accuracy there: `levels` on held-out rows,
        `train_levels` on training rows; empty where nothing was trained.
    """
    found = measures.get("preprocessing", {})
    form, gain = found.get("best"), pair_of(found.get("gain"))
    subject = trainer.subject
    if (
        not isinstance(form, str)
        or form == "identity"
        or gain is None
        or not Bar().passes(gain)
        or retrained.get("balanced_accuracy", 1.0) >= reached(measures, gain.value)
        or missing_field(subject, "optimizer", "loss", "epochs")
        or subject.recipe.normalization != "none"
    ):
        return {}
    shown = DataChange(name="shown", transform=form)
    arms = [Arm(name=f"shown as {form}", changes=(shown,))]
    seeds = trainer.seeds("screen", SEEDS)
    if trainer.cost(arms, seeds) > SHARE_OF_LEFT * trainer.left:
        return {}
    results = yield from trainer.train(
        "screen", "Does what the recipe yields do as well in that form?", arms, seeds
    )
    if arms[0].name not in results:
        return {}
    levels: list[JsonValue] = [*results.levels(arms[0].name).tolist()]
    trials = results.arms[arms[0].name].outcome.trials
    on_train: list[JsonValue] = [trial.train_balanced_accuracy for trial in trials]
    return {"form": form, "levels": levels, "train_levels": on_train}


def reached(measures: Measures, gain: float) -> float:
    """Balanced accuracy of the delivered model in the form that suits it best."""
    before = measures.get("preprocessing", {}).get("before")
    return gain + (float(before) if isinstance(before, int | float) else 0.0)
