"""What is cut into pieces for several workers is trained as the whole would be."""

import lab_material as lab
from torch import nn

from tests.builders_engine import make_subject
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import Arm, ArmOutcome, RecipeChange, Training
from worker.engine.planning import Costs
from worker.engine.sharing import cut

SEEDS = tuple(range(8))
DEAR = Costs(one=0.0, each=0.01)  # seconds a step: worth cutting
ARMS = tuple(
    Arm(name=str(patch), changes=(RecipeChange(patch=patch),))
    for patch in (
        {"optimizer": {"lr": 0.01}},
        {"optimizer": {"lr": 0.1}},
        {"epochs": 9},
        {"epochs": 12},
    )
)


def test_pieces_train_to_what_the_whole_does(tmp_path):
    """A member's random numbers are its seed's, whoever trains beside it."""
    material = lab.make_material(
        nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)),
        (5,),
        recipe=lab.make_recipe(epochs=6),
        scratch=tmp_path,
    )
    subject = make_subject()
    for seeds in (SEEDS, (4,)):
        whole = Training(round="", question="", arms=ARMS, seeds=seeds)
        parts = cut(subject, whole, DEAR)

        _, joined = parts.joined(
            {piece.digest(): Bench(material).run(piece) for piece in parts.pieces}
        )

        assert len(parts.pieces) > 2
        told = Bench(material).run(whole)
        assert [hits(arm) for arm in joined.arms] == [hits(arm) for arm in told.arms]


def hits(arm: ArmOutcome) -> list[tuple[int, str]]:
    return [(trial.seed, trial.correct) for trial in arm.trials]
