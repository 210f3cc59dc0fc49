"""Which mends go together: composing arms, and the order of preference."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.contract.causes import Cause
from worker.engine.check import Mend
from worker.engine.lab.experiment import Arm, Change, NetworkChange, RecipeChange
from worker.engine.results import BASELINE
from worker.engine.sweeps import SHUFFLED
from worker.engine.wording import AND

# Of causes whose mending brings about as much, the cheapest to mend comes first.
CHEAPEST_FIRST: tuple[Cause, ...] = (
    Cause.CORRUPTED_INPUTS,
    Cause.UNSUITABLE_ACTIVATION,
    Cause.UNSUITABLE_LOSS,
    Cause.UNSCALED_INPUTS,
    Cause.LEARNING_RATE_TOO_HIGH,
    Cause.LEARNING_RATE_TOO_LOW,
    Cause.INSUFFICIENT_TRAINING,
    Cause.CLASS_IMBALANCE,
    Cause.LABEL_NOISE,
    Cause.EXCESS_REGULARIZATION,
    Cause.INSUFFICIENT_CAPACITY,
    Cause.UNSUITABLE_LAYERS,
    Cause.UNSUITABLE_OPTIMIZER,
    Cause.INSUFFICIENT_REGULARIZATION,
    Cause.EXCESS_CAPACITY,
    Cause.INSUFFICIENT_DATA,
)


EVIDENT_SHARE = 0.8  # of the best gain; from here on an evident mend is named first
SHARE_OF_FAR_FETCHED = 0.6  # likewise, where nothing speaks for what gains most
NEAR_SHARE = 0.9  # of the best gain; from here on the order of preference decides


def preference(mend: Mend) -> tuple[bool, bool, int]:
    """Rank of a mend among equals; low is preferred.

    Another activation that nothing in the graph speaks for comes last: many a fault is
    borne better by one that saturates. Sorted rows in a random order come first: that
    costs nothing, and nobody leaves them sorted on purpose.
    """
    order = (
        CHEAPEST_FIRST.index(mend.cause)
        if mend.cause in CHEAPEST_FIRST
        else len(CHEAPEST_FIRST)
    )
    if mend.key == SHUFFLED:
        order = -1
    return not mend.evident, _is_far_fetched(mend), order


def _is_far_fetched(mend: Mend) -> bool:
    return not mend.evident and mend.cause is Cause.UNSUITABLE_ACTIVATION


def first_to_name(
    gains: Sequence[tuple[Mend, float]], errors: Sequence[float] | None = None
) -> Mend:
    """Of mends with their gains, the one to name: the best, or nearly so and likelier.

    Args:
        gains: (mend, balanced accuracy), not empty.
        errors: standard errors of the gains; what is within one of nearly as good is.
    """
    errors = errors or [0.0] * len(gains)
    known = [(m, gain, error) for (m, gain), error in zip(gains, errors, strict=True)]
    best, top, _ = max(known, key=lambda item: item[1])
    if not best.evident:
        share = SHARE_OF_FAR_FETCHED if _is_far_fetched(best) else EVIDENT_SHARE
        likelier = [
            (m, gain)
            for m, gain, error in known
            if m.evident and gain + error >= share * top
        ]
        # Evident ones are weighed against the best of them.
        best, top = max(likelier, key=lambda item: item[1], default=(best, top))
    near = [
        m
        for m, gain, error in known
        if gain + error >= (EVIDENT_SHARE if m.evident else NEAR_SHARE) * top
    ]
    return min(near or [best], key=preference)


def compatible(first: Mend, second: Mend) -> bool:
    """Whether two mends can be made together without undoing each other."""
    if first.cause == second.cause:
        return False
    mine, theirs = _touched(first.changes), _touched(second.changes)
    return not any(
        a == b or a.startswith(b + ".") or b.startswith(a + ".")
        for a in mine
        for b in theirs
    )


def goes_with(mend: Mend, others: Iterable[Mend]) -> bool:
    """Whether a mend can be made together with each of others."""
    return all(compatible(mend, other) for other in others)


def name(mends: Iterable[Mend]) -> str:
    """Name the arm that makes several mends at once."""
    return AND.join(mend.key for mend in _ordered(mends))


def parts_of(arm: str) -> set[str]:
    """List the keys of the mends that an arm makes, from its name."""
    return set(arm.split(AND))


def compose(mends: Sequence[Mend]) -> Arm:
    """Make several mends at once; the order of the causes does not matter."""
    changes: list[Change] = []
    for mend in _ordered(mends):
        changes += [c for c in mend.changes if c not in changes]
    return Arm(name=name(mends), changes=tuple(changes))


def all_but_one(mends: Sequence[Mend]) -> list[tuple[Mend, ...]]:
    """A combination with each of its mends left out in turn."""
    return [tuple(m for m in mends if m != left) for left in mends]


def taken_apart(mends: Sequence[Mend]) -> list[Arm]:
    """The baseline, a combination, and that with each of its mends left out."""
    whole = [Arm(name=BASELINE), compose(mends)]
    return whole + [compose(rest) for rest in all_but_one(mends) if rest]


def arm_of(mends: Sequence[Mend]) -> Arm:
    """The mends made at once; without any it is what the recipe yields as it is."""
    return compose(mends) if mends else Arm(name=BASELINE)


def is_more_of(mend: Mend, other: Mend) -> bool:
    """Whether another mend changes what the first one does, and may do it further.

    Another activation is not more of a last one removed.
    """
    mine, theirs = _touched(mend.changes), _touched(other.changes)
    return mine <= theirs or theirs <= mine


def choose_compatible(mends: Iterable[Mend]) -> list[Mend]:
    """Take mends in order, leaving out what does not go with those taken."""
    taken: list[Mend] = []
    for mend in mends:
        if goes_with(mend, taken):
            taken.append(mend)
    return taken


def beside(mend: Mend, others: Sequence[Mend], options: Iterable[Mend]) -> Mend | None:
    """A mend or, where it does not go with others, the likest of its kind that does.

    A wider network with a rate of its own does not go with another rate, but the wider
    network alone does.

    Args:
        mend: the best of its cause.
        others: what is made as well.
        options: mends of the same cause that may stand in for it.

    Returns:
        None where nothing that is left of it goes with them.
    """

    def likeness(option: Mend) -> int:
        return sum(change in mend.changes for change in option.changes)

    fitting = [m for m in (mend, *options) if likeness(m) and goes_with(m, others)]
    return max(fitting, key=likeness, default=None)


def everything(mends: Mapping[Cause, Sequence[Mend]]) -> tuple[Mend, ...]:
    """One sane mend a cause, as many as go together."""
    sane = []
    for options in mends.values():
        fitting = [m for m in options if m.sane]
        if fitting:
            sane.append(max(fitting, key=lambda m: len(m.changes)))
    sane.sort(key=preference)
    return tuple(choose_compatible(sane))


def everything_wider(mends: Mapping[Cause, Sequence[Mend]]) -> tuple[Mend, ...]:
    """The same in the widest network, with what else something speaks for.

    What fails in a narrow network shows nothing, and where several things are wrong
    none of them helps before the last is mended.
    """
    wider = mends.get(Cause.INSUFFICIENT_CAPACITY, ())[:1]
    evident = [
        m
        for options in mends.values()
        for m in options
        if m.evident and not m.measuring
    ]
    return tuple(choose_compatible([*everything(mends), *wider, *evident]))


def with_controls(mend: Mend) -> list[Arm]:
    """A mend's arm, and those that it must beat beside the baseline."""
    arms = [Arm(name=mend.key, changes=mend.changes)]
    if mend.control:
        arms.append(Arm(name=mend.control_arm, changes=mend.control))
    if mend.rival is not None:
        arms.append(Arm(name=mend.rival.key, changes=mend.rival.changes))
    return arms


def on_top(chosen: Sequence[Mend], mend: Mend) -> list[Arm]:
    """A mend within the combination, and its rival in its place."""
    rest = [m for m in chosen if m.cause != mend.cause]
    options = [mend] if mend.rival is None else [mend, mend.rival]
    return [
        compose([*rest, option])
        for option in options
        if rest and goes_with(option, rest)
    ]


def _ordered(mends: Iterable[Mend]) -> list[Mend]:
    return sorted(mends, key=lambda mend: (CHEAPEST_FIRST.index(mend.cause), mend.key))


def _touched(changes: Sequence[Change]) -> set[str]:
    touched: set[str] = set()
    for change in changes:
        if isinstance(change, RecipeChange):
            touched |= _leaves(change.patch, "")
        elif isinstance(change, NetworkChange):
            touched.add(f"network.{change.name}")
            if change.name == "output" and change.to is None:
                touched.add("loss.name")
            if change.name == "reference":
                touched |= {"network.width", "network.activation", "network.dropout"}
        else:
            touched.add(f"data.{change.name}")
    if any(leaf == "optimizer.name" for leaf in touched):
        touched |= {"optimizer.lr", "optimizer.momentum", "optimizer.eps"}
    return touched


def _leaves(patch: dict[str, Any], prefix: str) -> set[str]:
    found: set[str] = set()
    for key, value in patch.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found |= _leaves(value, path + ".")
        else:
            found.add(path)
    return found
