from tests.builders_engine import make_subject
from worker.engine.lab.experiment import Arm, Training
from worker.engine.planning import Costs


def test_what_trainings_took_corrects_what_the_next_should_cost():
    subject = make_subject()
    costs = Costs(one=0.0, each=1e-3)
    training = Training(round="", question="", arms=(Arm(name="a"),), seeds=(0, 1))
    planned = costs.of(subject, training)

    costs.learn(subject, training, 10 * planned)
    costs.learn(subject, training, 10 * planned)

    assert costs.of(subject, training) > 3 * planned
