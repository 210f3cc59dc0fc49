"""What a check is: what to try (`mends`), and how to judge what came out (`judge`).

A check never trains. The auditor gathers the mends of all checks, has them trained in
shared experiments against one baseline, decides which gains are real, and hands each
check its `Case`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import JsonValue

from service.contract.causes import BY_CAUSE, Cause
from service.contract.report import (
    ON_A_PART,
    Evidence,
    Finding,
    Gain,
    Recommendation,
    Verdict,
)
from worker.engine.lab.experiment import Change, RecipeChange
from worker.engine.recipe import merge_patch
from worker.engine.stats.decisions import Decision, Floors, severity_of
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject
from worker.engine.told_apart import is_undone
from worker.engine.wording import cause_words, counted

Measures = dict[str, dict[str, JsonValue]]
WRONG_HELD_OUT = 0.1  # share of the held-out labels, from which gains look smaller
LEAST_SEEN = 0.25  # of a gain, that such labels are taken to show
MOST_BY_ONE_PAIR = 0.95  # confidence; one pair does not show how far seeds lie apart
AS_IN_TRAINING = "looks_as_in_training"  # evidence: what another form undoes
Role = Literal["primary", "component", "equivalent", "explained", "none"]


@dataclass(frozen=True)
class Mend:
    """One thing mended, as an arm of an experiment.

    Attributes:
        key: name of the arm, unique in the audit.
        text: what to do, imperative, without a full stop.
        changes: what is changed, in order.
        control: changes of an arm in the same circumstances (another learning rate,
            say) without this one thing; the gain is then over the better of control
            and baseline.
        sane: whether it belongs to the arm in which everything is mended at once.
        urgent: likely or cheap enough to be tried first.
        evident: something in the graph, the data or the recipe is out of the ordinary
            and speaks for it, before anything is trained; of mends that help as much,
            evident ones are named first, and less must be proven of them.
        natural: what speaks for it may be as it should be; the repaired model is given
            it for a gain alone.
        measuring: trained only to measure something, never a remedy itself.
        by_itself: whether it tells something without the cause's other measuring ones.
        control_name: of an arm that several mends share as their control.
        late_control: the control is trained only once the mend looks worth it.
        rival: a cheaper mend of another cause that this one must beat, alone and in
            combination, to be worth naming.
    """

    cause: Cause
    key: str
    text: str
    changes: tuple[Change, ...]
    control: tuple[Change, ...] = ()
    sane: bool = False
    urgent: bool = False
    evident: bool = False
    natural: bool = False
    measuring: bool = False
    by_itself: bool = False
    control_name: str | None = None
    late_control: bool = False
    rival: "Mend | None" = None

    @property
    def control_arm(self) -> str:
        """Name of the arm that trains `control`."""
        return self.control_name or f"{self.key}|control"

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the arms, beside the baseline, over which it must gain."""
        own = (self.control_arm,) if self.control else ()
        return (*own, self.rival.key) if self.rival else own

    @property
    def patch(self) -> dict[str, Any] | None:
        """The recipe's part of the change as one JSON merge patch."""
        merged: dict[str, Any] = {}
        for change in self.changes:
            if isinstance(change, RecipeChange):
                merged = merge_patch(merged, change.patch)
        return merged or None


@dataclass(frozen=True)
class Trial:
    """What the rounds made of one cause.

    Attributes:
        mend: the best of its mends.
        gain: against the run as it was; confirmed on fresh seeds where it survived.
        over: the arm over which it is gained: the baseline or the best control.
        confirmed: whether fresh seeds judged it.
        on_top: its gain within the best combination: with all against all but this,
            or against the rival in its place.
        adjusted_p: of the gain, over all causes tested (Holm).
        weight: its share of the error that the audit may make.
        decision: what the gain says, taken alone.
        role: its place in the best combination.
        explained_by: the cause whose mending makes this gain vanish.
        instead: whether the two mends cannot be made together.
        arms: (key, gain) of every mend of this cause that was tried.
        experiments: ids.
    """

    mend: Mend
    gain: PairedGain
    confirmed: bool
    decision: Decision
    adjusted_p: float = 1.0
    weight: float = 1.0
    on_top: PairedGain | None = None
    role: Role = "none"
    explained_by: Cause | None = None
    instead: bool = False
    arms: tuple[tuple[str, PairedGain], ...] = ()
    experiments: tuple[str, ...] = ()
    over: str = "baseline"


@dataclass(frozen=True)
class Case:
    """Everything a check may look at when it judges.

    Attributes:
        measures: values by probe.
        trial: what retraining said, None where nothing was retrained.
        baseline: figures of the run as it was, retrained: `train_accuracy`,
            `balanced_accuracy`, `gap`, `diverged_share`, `gradient_ratio`, …
        arms: mean figures of every arm that was trained, by key.
        gaps: why a mend could not be tried, by key.
        signal: False where nothing in the data predicts the labels.
        delivered: balanced accuracy of the delivered model on held-out data.
        trials: of the other causes.
        retrained: the network trained anew by the same recipe against the delivered
            weights, on the same held-out rows.
        better_on_spared: how much better the recipe does on training rows that it did
            not see than on held-out rows; None where that was not measured.
        relapses: share of those trainings that end no better than the delivered
            weights would if they were that much better (balanced accuracy), in
            another order of the outputs, say.
        gains: of this cause's arms over the baseline, by key.
        experiments: ids of the experiments with this cause's arms.
        gains_on_top: of this cause's arms within the best combination, by key.
        mended: keys of the mends in that combination.
        subsample: training rows that retraining used, None where all.
        level: balanced accuracy that this cause's measuring arms are compared with.
        room: upper end of what any change could gain; None where it is not known.
        judged: findings of the causes that the check comes `after`.
    """

    measures: Measures
    trial: Trial | None = None
    baseline: dict[str, float] = field(default_factory=dict)
    arms: dict[str, dict[str, float]] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    signal: bool = True
    delivered: float = 0.0
    trials: dict[Cause, Trial] = field(default_factory=dict)
    retrained: PairedGain | None = None
    relapses: Callable[[float], float] = lambda _: 0.0
    better_on_spared: PairedGain | None = None
    gains: dict[str, PairedGain] = field(default_factory=dict)
    experiments: tuple[str, ...] = ()
    gains_on_top: dict[str, PairedGain] = field(default_factory=dict)
    mended: tuple[str, ...] = ()
    subsample: int | None = None
    level: float = 0.0
    room: float | None = None
    judged: Mapping[Cause, Finding] = field(default_factory=dict)

    @property
    def anew(self) -> float:
        """Balanced accuracy that training anew brings; 0 where it was not tried."""
        return self.retrained.value if self.retrained else 0.0

    @property
    def best_trained(self) -> float:
        """Balanced accuracy of the best arm; 0 where nothing was retrained."""
        return max(
            (arm.get("balanced_accuracy", 0.0) for arm in self.arms.values()),
            default=0.0,
        )


class Check(Protocol):
    """One cause.

    Attributes:
        cause: its name.
        after: causes to be judged before, whose findings it sees in `Case.judged`; may
            be left out.
    """

    cause: ClassVar[Cause]

    def obstacle(self, subject: Subject) -> str | None:
        """Say why it cannot be judged here; None where it can."""
        ...

    def mends(self, subject: Subject, measures: Measures) -> list[Mend]:
        """List what to try, best first."""
        ...

    def judge(self, subject: Subject, case: Case) -> Finding:
        """Say what was learned."""
        ...


def missing_field(subject: Subject, *names: str) -> str | None:
    """Name the recipe field without which a cause cannot be judged."""
    for name in names:
        if not subject.was_given(name):
            return f"the recipe does not give `{name}`"
    return None


def not_applicable(cause: Cause, reason: str) -> Finding:
    """Say that, and why, a cause cannot be judged."""
    entry = BY_CAUSE[cause]
    return Finding(
        cause=cause,
        group=entry.group,
        verdict="not_applicable",
        summary=f"Not judged: {reason}.",
        reason=reason,
        check="skipped",
        docs=entry.docs,
    )


def gain_of(pair: PairedGain, method: str = "paired retraining") -> Gain:
    """Put an estimate into the words of the report."""
    return Gain(
        value=pair.value,
        low=pair.low,
        high=pair.high,
        seeds=pair.seeds,
        method=method,
    )


def points(value: float) -> str:
    """Say a difference of balanced accuracy as a person would."""
    return f"{_hundredths(value)} points"


def _hundredths(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"  # never -0.0


def between(low: float, high: float) -> str:
    """Show the interval of a difference, in points: `(+1.0 to +4.2)`."""
    return f"({_hundredths(low)} to {_hundredths(high)})"


def measured(gain: PairedGain) -> str:
    """Say a difference with its interval: `+2.6 points (+1.0 to +4.2)`."""
    return f"{points(gain.value)} {between(gain.low, gain.high)}"


def pair_of(values: JsonValue) -> PairedGain | None:
    """Read a paired difference that a probe measured on the delivered model."""
    if not isinstance(values, dict):
        return None
    value, error = values.get("value"), values.get("standard_error")
    if not isinstance(value, int | float) or not isinstance(error, int | float):
        return None
    return PairedGain(value=value, error=max(error, 1e-9), degrees=1e6, seeds=0)


def undoes_the_move(measures: Measures) -> bool:
    """Whether held-out inputs look like training inputs in the best form alone.

    As told without any label, see the probe `preprocessing`.
    """
    areas = measures.get("preprocessing", {}).get("told_apart")
    return isinstance(areas, dict) and is_undone(areas)


def delivered_score(measures: Measures, name: str) -> float | None:
    """Read a score of the delivered model, None where it was not measured."""
    value = measures.get("delivered", {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def supposed_loss(case: Case) -> float:
    """What a move of held-out inputs may cost, where nothing measures it.

    Half of the balanced accuracy by which the delivered model does better on training
    rows; the rest is learned by heart.
    """
    on_train = delivered_score(case.measures, "train_balanced_accuracy")
    return 0.5 * ((on_train or 0.0) - case.delivered)


def delivered_hits(
    measures: Measures,
    split: Literal["decide", "final"] = "decide",
    *,
    as_it_runs: bool = False,
) -> str | None:
    """Read which held-out rows the delivered model hits, packed; None: not known.

    Args:
        measures: of the probes.
        split: which rows.
        as_it_runs: in the mode in which it came, rather than in evaluation mode.
    """
    delivered = measures.get("delivered", {})
    own = delivered.get("as_it_runs")
    masks = (own if as_it_runs and isinstance(own, dict) else delivered).get("correct")
    mask = masks.get(split) if isinstance(masks, dict) else None
    return mask if isinstance(mask, str) else None


def noise_rate(measures: Measures) -> float:
    """Share of the training labels that the probe `noise` thinks wrong; 0: none."""
    return _noise_rate(measures, "value")


def least_noise_rate(measures: Measures) -> float:
    """Lower end of the interval of that share; 0 where it is not known."""
    return _noise_rate(measures, "low")


def seen_of_gains(measures: Measures) -> float:
    """Share of a gain that held-out labels show: 1 where they are right.

    Of labels that are wrong as often, to any class, right answers hit fewer and wrong
    ones more. Only where at least a tenth of them are surely wrong.
    """
    wrong = measures.get("noise", {}).get("held_out")
    low, shown = (
        (wrong.get("low"), wrong.get("shown")) if isinstance(wrong, dict) else (0, 1)
    )
    if not isinstance(low, int | float) or not isinstance(shown, int | float):
        return 1.0
    return max(LEAST_SEEN, float(shown)) if low >= WRONG_HELD_OUT else 1.0


def _noise_rate(measures: Measures, name: Literal["value", "low"]) -> float:
    rate = measures.get("noise", {}).get("rate")
    found = rate.get(name) if isinstance(rate, dict) else None
    return float(found) if isinstance(found, int | float) else 0.0


@dataclass(frozen=True)
class Bar:
    """What a gain measured on the delivered model must pass.

    Attributes:
        proven: balanced accuracy that the lower bound must exceed.
        material: balanced accuracy that the estimate must reach.
        p_value: one-sided; a twentieth of 5 %, since about twenty causes are judged.
    """

    proven: float = 0.01
    material: float = 0.025
    p_value: float = 0.0025

    def passes(self, gain: PairedGain | None) -> bool:
        """Whether the gain is material and proven."""
        return (
            gain is not None
            and gain.value >= self.material
            and gain.p_above(self.proven) <= self.p_value
        )


def found_in_delivery(  # noqa: PLR0913 - the parts of a finding
    cause: Cause,
    gain: PairedGain | None,
    *,
    summary: str,
    text: str,
    evidence: list[Evidence],
    method: str,
    verdict: Literal["found", "suspected"] = "found",
) -> Finding:
    """Name a fault of the delivered file or of the way data reach it."""
    entry = BY_CAUSE[cause]
    worth = gain.value if gain is not None else 0.0
    return Finding(
        cause=cause,
        group=entry.group,
        verdict=verdict,
        severity=severity_of(worth),
        confidence=1 - min(0.5, 20 * gain.p_above(0.0)) if gain else 0.99,
        summary=summary,
        gain=gain_of(gain, method) if gain else None,
        evidence=evidence,
        recommendation=Recommendation(text=text),
        docs=entry.docs,
    )


def clear(
    cause: Cause,
    summary: str,
    *,
    evidence: list[Evidence] | None = None,
    gain: PairedGain | None = None,
    method: str = "",
    confidence: float = 0.95,
) -> Finding:
    """Say that a fault was looked for and is not there."""
    entry = BY_CAUSE[cause]
    return Finding(
        cause=cause,
        group=entry.group,
        verdict="not_found",
        confidence=confidence,
        summary=summary,
        gain=gain_of(gain, method) if gain else None,
        evidence=evidence or [],
        docs=entry.docs,
    )


def flattered_by(leak: Finding | None) -> float:
    """Balanced accuracy by which a leak that was found flatters the score."""
    if leak is None or leak.verdict != "found":
        return 0.0
    values = (evidence.values.get("inflation") for evidence in leak.evidence)
    return max((float(v) for v in values if isinstance(v, int | float)), default=0.0)


def undecided(
    cause: Cause, reason: str, *, evidence: list[Evidence] | None = None
) -> Finding:
    """Say that, and why, nothing can be said."""
    entry = BY_CAUSE[cause]
    return Finding(
        cause=cause,
        group=entry.group,
        verdict="inconclusive",
        confidence=0.5,
        summary=reason,
        reason=reason,
        evidence=evidence or [],
        docs=entry.docs,
    )


def no_room(
    check: Check, case: Case, evidence: Sequence[Evidence] = ()
) -> Finding | None:
    """Say that nothing can be gained, where the recipe yields all but that already.

    Args:
        check: whose cause it is.
        case: what came out.
        evidence: facts beside it.
    """
    floors = Floors()
    if case.room is None or case.room >= floors.material:
        return None
    shown = Evidence(
        kind="room",
        statement=(
            f"Trained anew by the recipe the network lacks at most {points(case.room)} "
            "of a perfect balanced accuracy."
        ),
        values={"most": case.room, "level": floors.absence_level},
    )
    return clear(
        check.cause,
        f"Nothing is left to gain: no change can bring more than {points(case.room)}.",
        evidence=[*evidence, shown],
        confidence=floors.absence_level,
    )


def judge_gain(
    check: Check,
    case: Case,
    *,
    says: str,
    evidence: list[Evidence] | None = None,
    fault: float = Floors().fault,
) -> Finding:
    """Judge a cause by what mending it brought.

    `found`: the gain is proven, the mend belongs to the best combination, and what it
    brings is a fault.
    `suspected`: the gain is proven, yet too small for a fault, or not needed beside the
    named other cause, which need not gain more.

    Args:
        check: whose cause it is.
        case: what came out.
        says: the fault in one clause, for a person, starting with a capital.
        evidence: facts beside the gain.
        fault: balanced accuracy from which the gain is a fault's; the data themselves
            may prove a fault that costs less.
    """
    entry = BY_CAUSE[check.cause]
    evidence = list(evidence or [])
    trial = case.trial
    if trial is None and case.gaps and (full := no_room(check, case, evidence)):
        return full
    if trial is None:
        untried = "no sign of it, so nothing that could mend it was tried"
        reason = next(iter(case.gaps.values()), untried)
        return Finding(
            cause=check.cause,
            group=entry.group,
            verdict="inconclusive" if case.gaps else "not_found",
            confidence=0.5,
            summary=f"Cannot tell: {reason}." if case.gaps else _sentence(reason),
            reason=reason,
            evidence=evidence,
            docs=entry.docs,
        )
    evidence += _trial_evidence(trial)
    gain = trial.gain
    shown, method = gain, "paired retraining"
    named = trial.role in ("primary", "component")
    if named and trial.on_top is not None and trial.on_top.value > gain.value:
        shown = trial.on_top
        method = "paired retraining within the best combination"
    if case.subsample is not None:
        method += f"{ON_A_PART}{case.subsample} training rows"
    verdict, confidence, summary = _said_of(trial, shown, says, fault)
    acts = verdict in ("found", "suspected")
    return Finding(
        cause=check.cause,
        group=entry.group,
        verdict=verdict,
        severity=severity_of(_worth(trial, shown)) if acts else "info",
        confidence=min(1.0, max(0.0, confidence)),
        summary=summary,
        reason=summary if verdict == "inconclusive" else None,
        gain=gain_of(shown, method),
        evidence=evidence,
        recommendation=Recommendation(
            text=f"{trial.mend.text}.", recipe_patch=trial.mend.patch
        )
        if acts
        else None,
        experiments=list(trial.experiments),
        docs=entry.docs,
    )


def _said_of(
    trial: Trial, shown: PairedGain, says: str, fault: float
) -> tuple[Verdict, float, str]:
    """Verdict, confidence and summary."""
    gain, mended = trial.gain, f"{says}. {trial.mend.text}"
    by = trial.explained_by
    sure = 1 - trial.adjusted_p
    if trial.role in ("primary", "component"):
        is_fault = shown.value >= fault
        little = "" if is_fault else ", worth having, yet no fault to speak of"
        text = f"{mended}: {points(shown.value)} balanced accuracy{little}."
        return "found" if is_fault else "suspected", sure, text
    alone = f"{trial.mend.text}: {points(gain.value)} alone"
    if trial.decision == "found":
        beside = _once(trial, by) if by is not None else ", not in addition"
        return "suspected", sure, f"{alone}{beside}."
    if by is not None and trial.on_top is not None:
        sure_of_absence = 1 - trial.on_top.p_below(0.025)
        perhaps = f"{trial.mend.text}: perhaps {points(gain.value)} alone"
        return "not_found", sure_of_absence, f"{perhaps}{_once(trial, by)}."
    if trial.decision == "not_found":
        tried = f"Tried without a gain to speak of: {trial.mend.text}"
        sure_of_absence = 1 - gain.p_below(0.025)
        if gain.seeds == 1:
            sure_of_absence = min(sure_of_absence, MOST_BY_ONE_PAIR)
        return "not_found", sure_of_absence, f"{tried} ({points(gain.value)})."
    return "inconclusive", 0.5, _open(trial)


def _open(trial: Trial) -> str:
    """Say why nothing can be said of a gain."""
    gain, on_top = trial.gain, trial.on_top
    brings = f"{trial.mend.text}: {measured(gain)}"
    if on_top is not None and on_top.value > gain.value:
        brings += f"; with the rest mended {measured(on_top)}"
    elif not trial.confirmed and gain.low > Floors().proven:
        return (
            f"{brings} in {counted(gain.seeds, 'pair')} of first trainings. No fresh "
            "seeds confirmed that, so it is neither proven nor ruled out; a larger "
            "budget may settle it."
        )
    return f"{brings}. That is too close to call with this data and budget."


def _once(trial: Trial, other: Cause) -> str:
    """What it adds to the mending of another."""
    named = f"once “{cause_words(other)}” is mended"
    extra = trial.on_top
    if extra is None and trial.instead:
        if trial.role == "equivalent":
            return f"; either this or mending “{cause_words(other)}” is enough"
        return f", in place of mending “{cause_words(other)}”, which brings more"
    if extra is None:
        return f"; what it adds {named} was not measured"
    if extra.value <= 0:
        return f", but nothing more {named} ({points(extra.value)})"
    only = "but only " if extra.value < Floors().material else ""
    return f", {only}{points(extra.value)} more {named}"


def _worth(trial: Trial, shown: PairedGain) -> float:
    """What the severity goes by: of what another explains, what is left beside it."""
    if trial.explained_by is None or trial.on_top is None:
        return shown.value
    return min(shown.value, trial.on_top.value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _trial_evidence(trial: Trial) -> list[Evidence]:
    tried: dict[str, JsonValue] = {
        key: {"value": pair.value, "low": pair.low, "high": pair.high}
        for key, pair in trial.arms
    }
    pairs = counted(trial.gain.seeds, "pair")
    stage = "on fresh seeds" if trial.confirmed else "of first trainings"
    if trial.gain.seeds == 1:
        stage += ", an interval for the rows alone"
    found = [
        Evidence(
            kind="paired_gain",
            statement=(
                f"{trial.mend.text}: {points(trial.gain.value)} balanced accuracy "
                f"{between(trial.gain.low, trial.gain.high)} over {pairs} {stage}."
            ),
            values={
                "arm": trial.mend.key,
                "over": trial.over,
                "tried": tried,
                "p_adjusted": trial.adjusted_p,
                "weight": trial.weight,
            },
        )
    ]
    if trial.on_top is not None:
        found.append(
            Evidence(
                kind="within_combination",
                statement=(
                    "Within the best combination, all else mended, it is worth "
                    f"{measured(trial.on_top)}."
                ),
                values={
                    "value": trial.on_top.value,
                    "low": trial.on_top.low,
                    "high": trial.on_top.high,
                },
            )
        )
    return found
