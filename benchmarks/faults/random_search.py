"""The competitor to beat: random search over the same mends, with the same time.

It draws one to three mends that go together, trains each draw once, and keeps the best
by the rows that decisions are made on. So it knows everything that the auditor knows of
what could be mended, and nothing of what to try first, of pairs or of proof.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.drive import OpenedAudit
from worker.engine.catalog import CATALOG
from worker.engine.check import Measures, Mend
from worker.engine.combination import choose_compatible, compose
from worker.engine.lab.experiment import Arm

DRAWS_AT_ONCE = 8
MOST_MENDS = 3
FINAL_SEEDS = 3  # as many as a careful user would train before choosing one


def _mends(opened: OpenedAudit) -> list[Mend]:
    """List what the checks would try, after the measurements that they ask for."""
    measures: Measures = {}
    step = opened.session.advance([])
    for experiment in step["experiments"]:
        if experiment["kind"] == "measurement":
            measures[experiment["name"]] = opened.session.run(experiment)["values"]
    subject = opened.session.subject
    if subject is None:
        return []
    return [
        mend
        for check in CATALOG
        if check.obstacle(subject) is None
        for mend in check.mends(subject, measures)
        if not mend.measuring
    ]


def _draw(rng: random.Random, mends: list[Mend]) -> Arm:
    shuffled = rng.sample(mends, len(mends))
    return compose(choose_compatible(shuffled)[: rng.randint(1, MOST_MENDS)])


def _training(arms: list[Arm], seeds: tuple[int, ...], **more: object) -> Any:  # noqa: ANN401
    return {
        "kind": "training",
        "round": "random",
        "question": "Which draw is best?",
        "arms": [arm.model_dump(mode="json") for arm in arms],
        "seeds": seeds,
        **more,
    }


def random_search(
    folder: Path, scratch: Path, *, seconds: float, seed: int = 0
) -> dict[str, Any]:
    """Search until the time is spent.

    Args:
        folder: of the program.
        scratch: emptied first; the best model lies there afterwards.
        seconds: what the audit of the same program took.
        seed: of the draws.

    Returns:
        `best` (name of the arm), `draws`, `decide` (its balanced accuracy there),
        `file` (path of the model, or None) and `loss` (of its recipe).
    """
    started = time.process_time()
    opened = OpenedAudit(folder, scratch, budget="standard", seed=seed)
    mends = _mends(opened)
    rng = random.Random(seed)  # noqa: S311 - draws, not secrets
    best, top, draws = Arm(name="baseline"), -1.0, 0
    # The last model costs about as much as a batch of draws.
    slowest = 0.0
    while mends and time.process_time() - started + 1.5 * slowest < seconds:
        begin = time.process_time()
        drawn = {
            arm.name: arm for arm in (_draw(rng, mends) for _ in range(DRAWS_AT_ONCE))
        }
        left = seconds - (begin - started)
        outcome = opened.session.run(
            _training([*drawn.values()], (draws,), max_seconds=max(1.0, left))
        )
        for arm in outcome["arms"]:
            for trial in arm["trials"]:
                draws += 1
                if trial["balanced_accuracy"] > top:
                    top, best = trial["balanced_accuracy"], drawn[arm["name"]]
        slowest = max(slowest, time.process_time() - begin)
    seeds = tuple(range(1000, 1000 + FINAL_SEEDS))
    outcome = opened.session.run(_training([best], seeds, keep=best.name))
    file = outcome.get("file")
    recipe = json.loads((folder / "recipe.json").read_text())
    loss = (recipe.get("loss") or {}).get("name", "cross_entropy")
    for change in best.changes:
        if change.kind == "recipe":
            loss = (change.patch.get("loss") or {}).get("name", loss)
    return {
        "best": best.name,
        "draws": draws,
        "decide": top,
        "file": scratch / file if file else None,
        "loss": loss,
        "seconds": round(time.process_time() - started, 2),
    }
