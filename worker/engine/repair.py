"""The round `remedy`: the repaired model, judged once on rows no decision looked at."""

from worker.engine.check import Mend
from worker.engine.combination import arm_of
from worker.engine.lab.experiment import Training, TrainingOutcome
from worker.engine.ledger import Entry, Round
from worker.engine.trainer import Trainer


def repair(
    trainer: Trainer,
    chosen: tuple[Mend, ...],
    *,
    anew: bool,
) -> Round[Entry | None]:
    """Train the best combination, or the recipe anew where that alone helps.

    Args:
        trainer: of the audit.
        chosen: the mends to make.
        anew: whether training anew by the same recipe repairs, without any mend.

    Returns:
        None where there is nothing to repair, or it could not be trained.
    """
    arm = arm_of(chosen)
    if not chosen and not anew:
        return None
    seeds = trainer.seeds("remedy", trainer.effort.remedy_seeds)
    while len(seeds) > 1 and trainer.cost([arm], seeds, full=True) > trainer.left:
        seeds = seeds[:-1]
    training = Training(
        round="remedy",
        question="How good is the repaired model on rows no decision looked at?",
        arms=(trainer.begun(arm),),
        seeds=seeds,
        split="final",
        keep=arm.name,
        max_seconds=trainer.at_most("remedy"),
    )
    [entry] = yield from trainer.ask(
        "remedy", "training the repaired model", [training]
    )
    outcome = entry.outcome
    if isinstance(outcome, TrainingOutcome) and outcome.arms[0].failure is None:
        return entry
    return None
