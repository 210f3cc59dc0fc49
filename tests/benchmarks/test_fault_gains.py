"""The arms behind a reported gain are found from the report alone."""

from typing import Any

from benchmarks.faults.reported_gains import ReportedGain, reported_gains


def make_arm(name: str, *scores: float, first_seed: int = 0) -> dict[str, Any]:
    seeds = list(range(first_seed, first_seed + len(scores)))
    metrics = {"balanced_accuracy_by_seed": list(scores)}
    return {"name": name, "changes": [], "seeds": seeds, "metrics": metrics}


def make_experiment(round_: str, *arms: dict[str, Any]) -> dict[str, Any]:
    settings = {"rows_asked": None, "split": "decide", "folds": None}
    return {"round": round_, "settings": settings, "arms": list(arms)}


def make_finding(
    gain: float, seeds: int, *tried: str, method: str = "paired retraining"
) -> dict[str, Any]:
    values: dict[str, Any] = {"tried": {key: {} for key in tried}}
    return {
        "cause": "learning_rate_too_low",
        "verdict": "found",
        "gain": {
            "value": gain, "low": gain - 0.1, "high": gain + 0.1,
            "seeds": seeds, "method": method,
        },
        "evidence": [{"kind": "paired_gain", "values": values}],
    }  # fmt: skip


def only(*experiments: dict[str, Any], finding: dict[str, Any]) -> ReportedGain:
    report = {"experiments": list(experiments), "findings": [finding], "limits": []}
    [found] = reported_gains(report)
    return found


def names(gain: ReportedGain) -> tuple[str, str]:
    return gain.after["name"], gain.before["name"]


def test_a_gain_of_fresh_seeds_is_told_from_that_of_the_screen():
    screen = make_experiment(
        "screen", make_arm("baseline", 0.5, 0.5), make_arm("lr=1", 0.9, 0.9)
    )
    confirm = make_experiment(
        "confirm",
        make_arm("baseline", 0.5, 0.5, 0.6),
        make_arm("lr=1", 0.8, 0.8, 0.9),
    )

    found = only(screen, confirm, finding=make_finding(0.3, 3, "lr=1"))

    assert found.is_confirmed
    assert names(found) == ("lr=1", "baseline")


def test_seeds_that_were_added_later_are_joined():
    first = make_experiment("confirm", make_arm("baseline", 0.5), make_arm("a", 0.6))
    more = make_experiment(
        "confirm",
        make_arm("baseline", 0.5, first_seed=9),
        make_arm("a", 0.8, first_seed=9),
    )

    found = only(first, more, finding=make_finding(0.2, 2, "a"))

    assert names(found) == ("a", "baseline")


def test_a_gain_within_a_combination_is_that_of_what_it_adds():
    confirm = make_experiment(
        "confirm",
        make_arm("baseline", 0.5),
        make_arm("a", 0.55),
        make_arm("b", 0.6),
        make_arm("a + b", 0.9),
    )
    method = "paired retraining within the best combination"

    found = only(confirm, finding=make_finding(0.3, 1, "a", method=method))

    assert names(found) == ("a + b", "b")


def test_a_gain_of_a_part_of_the_rows_counts_like_any_other():
    confirm = make_experiment("confirm", make_arm("baseline", 0.5), make_arm("a", 0.9))
    method = "paired retraining, both on 752 training rows"

    found = only(confirm, finding=make_finding(0.4, 1, "a", method=method))

    assert (found.kind, names(found)) == ("alone", ("a", "baseline"))


def test_a_gain_over_a_control_is_not_taken_for_one_over_the_baseline():
    confirm = make_experiment(
        "confirm",
        make_arm("baseline", 0.5),
        make_arm("a|control", 0.6),
        make_arm("a", 0.9),
    )

    found = only(confirm, finding=make_finding(0.3, 1, "a"))

    assert names(found) == ("a", "a|control")


def test_a_gain_that_no_arms_show_is_left_out():
    confirm = make_experiment("confirm", make_arm("baseline", 0.5), make_arm("a", 0.9))
    report = {
        "experiments": [confirm],
        "findings": [make_finding(0.2, 1, "a")],
        "limits": [],
    }

    assert list(reported_gains(report)) == []


def test_of_arms_that_tie_the_baseline_is_taken() -> None:
    screen = make_experiment(
        "screen",
        make_arm("baseline", 0.1, 0.2 + 1e-9),
        make_arm("other", 0.2, 0.1),
        make_arm("a", 0.4, 0.4),
    )

    found = only(screen, finding=make_finding(0.25, 2, "a"))

    assert names(found) == ("a", "baseline")


def test_where_figures_are_not_exact_no_rival_is_matched_by_chance() -> None:
    screen = make_experiment(
        "screen",
        make_arm("baseline", 0.5, 0.5),
        make_arm("other", 0.51, 0.51),
        make_arm("a", 0.81, 0.81),
    )
    screen["settings"]["folds"] = 5

    found = only(screen, finding=make_finding(0.3, 2, "a"))

    assert names(found) == ("a", "baseline")
