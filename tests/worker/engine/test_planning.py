from tests.builders_engine import make_subject
from worker.engine.lab.experiment import Arm, NetworkChange, RecipeChange, Training
from worker.engine.planning import Costs, group, network_key


def test_what_trainings_took_corrects_what_the_next_should_cost():
    subject = make_subject()
    costs = Costs(one=0.0, each=1e-3)
    training = Training(round="", question="", arms=(Arm(name="a"),), seeds=(0, 1))
    planned = costs.of(subject, training)

    costs.learn(subject, training, 10 * planned)
    costs.learn(subject, training, 10 * planned)

    assert costs.of(subject, training) > 3 * planned


def initialized(scheme: str, *changes: NetworkChange) -> Arm:
    start = NetworkChange(name="initialization", to=scheme)
    return Arm(name=f"{scheme} {len(changes)}", changes=(start, *changes))


def test_what_a_network_costs_is_known_whatever_weights_it_begins_with():
    subject = make_subject()
    wide = NetworkChange(name="width", factor=8.0)
    costs = Costs(one=0.0, each=1e-3, relative={network_key((wide,)): 2.0})

    plain, begun = (
        costs.of(subject, Training(round="", question="", arms=(arm,), seeds=(0,)))
        for arm in (Arm(name="wide", changes=(wide,)), initialized("he", wide))
    )

    assert begun == plain


def test_a_dear_network_is_dear_in_a_combination_too():
    subject = make_subject()
    dear = NetworkChange(name="reference", to="recurrent")
    bare = NetworkChange(name="output", to="none")
    costs = Costs(one=0.0, each=1e-3, relative={network_key((dear,)): 20.0})

    def training(*changes: NetworkChange) -> Training:
        arm = Arm(name=str(len(changes)), changes=changes)
        return Training(round="", question="", arms=(arm,), seeds=(0,))

    alone, plain = costs.of(subject, training(dear)), costs.of(subject, training(bare))
    assert alone == costs.of(subject, training(bare, dear)) == 20 * plain

    costs.learn(subject, training(dear), 10 * alone)
    assert costs.of(subject, training(bare, dear)) > 5 * alone


def test_arms_that_differ_in_initial_weights_share_a_stack():
    arms = [initialized(scheme) for scheme in ("default", "he", "glorot")]

    assert group(arms) == [arms]


def test_what_stops_early_on_the_way_of_another_costs_nothing_more():
    subject = make_subject()
    costs = Costs(one=1e-3, each=1e-3)
    epochs = subject.recipe.epochs
    planned = Training(
        round="screen", question="", arms=(Arm(name="baseline"),), seeds=(0, 1)
    )

    def added(count: int) -> float:
        change = RecipeChange(patch={"epochs": count})
        return costs.of_adding(subject, planned, Arm(name="other", changes=(change,)))

    alone = costs.of(subject, planned)
    assert added(epochs // 4) == 0
    assert 0 < added(2 * epochs) < 2 * alone
    other = Arm(name="lr", changes=(RecipeChange(patch={"optimizer": {"lr": 1.0}}),))
    assert costs.of_adding(subject, planned, other) == alone
