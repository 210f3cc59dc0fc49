"""The bench: the only place that trains.

It turns an experiment's arms and seeds into members, sorts them into stacks, trains and
scores. What happens inside one member never stops the others.
"""

import logging
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from service.contract.errors import UnusableModel
from worker.engine.lab.batches import Rows
from worker.engine.lab.evaluation import Weights, finite, marks, outputs
from worker.engine.lab.experiment import (
    Arm,
    ArmOutcome,
    Curve,
    NetworkChange,
    Training,
    TrainingOutcome,
    TrialOutcome,
    borrows,
    pack_mask,
)
from worker.engine.lab.gradients import Graphs
from worker.engine.lab.inputs import InputStep, Pipe
from worker.engine.lab.losses import LossImpossible
from worker.engine.lab.materials import Material as Material  # noqa: PLC0414
from worker.engine.lab.members import Builder, Member, by_arm, merged, stacks
from worker.engine.lab.packaging import is_complete, packaged
from worker.engine.lab.residence import ResidentSplit
from worker.engine.lab.scoring import Scorer
from worker.engine.lab.stack import Stack, Trial
from worker.engine.lab.views import ChangeImpossible
from worker.engine.memory import is_out_of_memory
from worker.engine.network.editing import SurgeryImpossible
from worker.engine.network.network import Network
from worker.engine.network.own_code import FAILURES, cause_of, own_code
from worker.engine.splits import base_rows
from worker.engine.wording import STOPPED

LOGGER = logging.getLogger(__name__)
Progress = Callable[[float, str], None]
_SAMPLE_ROWS = 4  # rows that surgery tries a network on
_SLOW_STEP = 0.02  # seconds of one member, from which few are measured
_SLOWEST_STEP = 0.1  # likewise, from which arithmetic alone counts
_FEW = 3


@dataclass
class _Run:
    """One training while it goes on."""

    training: Training
    base: Rows
    members: list[Member] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    unforeseen: set[int] = field(default_factory=set)
    parameters: dict[int, int] = field(default_factory=dict)
    trials: dict[tuple[int, int], Trial] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    member_steps: int = 0


class Bench:
    """Trains arms of one subject; data is moved to the device once."""

    def __init__(self, material: Material, progress: Progress | None = None) -> None:
        """Move the data to the device.

        Args:
            material: the subject.
            progress: told the fraction done, and what is being done.
        """
        self.material = material
        self._progress = progress or (lambda _fraction, _detail: None)
        self._splits: dict[str, ResidentSplit] = {}
        self._networks: dict[str, Network] = {}
        self._steps: dict[str, InputStep] = {}
        self._graphs: Graphs = {}
        self._step_seconds: dict[tuple[object, ...], float] = {}

    def run(self, training: Training) -> TrainingOutcome:
        """Train all arms from all seeds and score them.

        Raises:
            ValueError: `keep` names no arm.
        """
        started = self.material.clock()
        run = self._prepared(training)
        names = [arm.name for arm in training.arms]
        keep = None if training.keep is None else names.index(training.keep)
        groups = stacks(merged(run.members))
        total = sum(member.steps for group in groups for member in group)
        waiting = deque(groups)
        deadline = started + (training.max_seconds or float("inf"))
        kept: dict[tuple[int, int], tuple[Member, Stack]] = {}
        stopped = False
        ahead = total
        while waiting:
            group = waiting.popleft()
            # Each stack gets its share of the time left, so that none goes untrained.
            mine = sum(member.steps for member in group)
            now = self.material.clock()
            until = now + (deadline - now) * mine / max(1, ahead)
            ahead -= mine

            def tell(steps: int) -> None:
                run.member_steps += steps
                share = run.member_steps / max(1, total)
                self._progress(min(1.0, share), training.question)

            try:
                stack = self._stack(group, training, run)
                stopped |= stack.run(self._alarm(until), tell, keep)
            except FAILURES as error:
                parts = by_arm(group)
                if len(parts) > 1 and not is_out_of_memory(error):
                    LOGGER.warning("a stack failed; its arms go apart", exc_info=error)
                    waiting.extendleft(reversed(parts))
                    ahead += mine
                else:
                    self._give_up(group, error, run)
                continue
            for trial in stack.trials:
                run.trials[trial.end.arm, trial.end.seed] = trial
            for arm_seed in stack.kept:
                kept[arm_seed] = (_owner(group, arm_seed), stack)
        if stopped:
            done = run.member_steps / max(1, total)
            run.notes.append(f"{STOPPED}{done:.0%} of its updates.")
        file, seed, level = self._keep(keep, run, kept)
        return TrainingOutcome(
            arms=tuple(
                self._arm(index, arm, run) for index, arm in enumerate(training.arms)
            ),
            seconds=self.material.clock() - started,
            member_steps=run.member_steps,
            rows=len(run.base),
            notes=tuple(run.notes),
            file=file,
            kept_seed=seed,
            kept_level=level,
        )

    def _give_up(self, group: list[Member], error: Exception, run: _Run) -> None:
        """Leave out arms whose network fails in training; the others go on.

        A network that runs on some rows may fail on others, a changed one most of all.

        Raises:
            Exception: memory ran out on the network as it is.
        """
        is_own = group[0].network is self.material.network
        if is_own and is_out_of_memory(error):
            raise error
        LOGGER.warning("a stack failed", exc_info=error)
        for index in sorted({end.arm for one in group for end in one.ends}):
            run.failures[index] = f"the network fails in training: {cause_of(error)}"
            run.unforeseen.add(index)

    def measure_step(
        self, members: int, changes: tuple[NetworkChange, ...] = ()
    ) -> float | None:
        """Return the seconds of one step of a stack of that size.

        Where one member alone takes long, a few tell what company saves: much in a
        recurrent layer, whose many operations are small. Where it takes very long,
        company saves nothing and is not measured.

        Args:
            members: of the stack.
            changes: to the network; None is returned where they cannot be made, or
                where what they make fails in training.

        Raises:
            UnusableModel: the network as it is fails in training.
        """
        if members > 1:
            alone = self.measure_step(1, changes)
            if alone is None or alone > _SLOWEST_STEP:
                return None if alone is None else members * alone
            if alone > _SLOW_STEP and members > _FEW:
                few = self.measure_step(_FEW, changes)
                return None if few is None else members / _FEW * few
        arm = Arm(name="baseline", changes=changes)
        training = Training(
            round="measure", question="", arms=(arm,), seeds=tuple(range(members))
        )
        key = (arm.model_dump_json(), members)
        if key not in self._step_seconds:
            run = self._prepared(training)
            if not run.members:
                return None
            group = stacks(run.members)[0]
            try:
                with own_code("in training"):
                    stack = self._stack(group, training, run)
                    took = stack.time_step(1 if changes else 5, spend=True)
            except (UnusableModel, *FAILURES):
                if not changes:
                    raise
                return None
            self._step_seconds[key] = took * members / len(group)
        return self._step_seconds[key]

    def predict_seconds(self, training: Training) -> float:
        """Predict how long a training would take, from a few steps of each stack."""
        run = self._prepared(training)
        total = 0.0
        for group in stacks(merged(run.members)):
            key = (*group[0].stack, len(group))
            if key not in self._step_seconds:
                stack = self._stack(group, training, run)
                self._step_seconds[key] = stack.time_step()
            steps = sum(member.steps for member in group)
            total += self._step_seconds[key] * steps / len(group)
        return total

    def _alarm(self, until: float) -> Callable[[float], bool]:
        """Return what says whether a moment has passed, in so many seconds."""
        return lambda ahead: self.material.clock() + ahead > until

    def _split(self, name: str) -> ResidentSplit:
        if name not in self._splits:
            split = getattr(self.material, name)
            self._splits[name] = ResidentSplit(split, self.material.device)
        return self._splits[name]

    def _stack(self, group: list[Member], training: Training, run: _Run) -> Stack:
        train = self._split("train")
        scorer = Scorer(train, self._split(training.split), run.base)
        if any(member.view.scored is not None for member in group):
            train = self._with_lent()
        return Stack(group, train, scorer, self._graphs, self.material.clock)

    def _with_lent(self) -> ResidentSplit:
        """Training rows with those that decide behind them."""
        if "lent" not in self._splits:
            both = self._split("train"), self._split("decide")
            self._splits["lent"] = ResidentSplit.joined(*both)
        return self._splits["lent"]

    def _prepared(self, training: Training) -> _Run:
        material = self.material
        run = _Run(training, base_rows(material.train, training.rows))
        places = torch.arange(min(_SAMPLE_ROWS, len(material.train)))
        dtype = next(iter(material.network.parameters.values())).dtype
        train = self._split("train")
        sample = train.inputs(places.to(material.device), Pipe(), dtype)
        builder = Builder(
            material, run.base, sample, self._networks, self._steps, training.folds
        )
        for index, arm in enumerate(training.arms):
            if training.split != "decide" and borrows(arm.changes):
                run.failures[index] = "these rows are not lent"
                continue
            try:
                members = builder.members(index, arm, training.seeds)
            except (
                SurgeryImpossible,
                ChangeImpossible,
                LossImpossible,
                ValidationError,
            ) as error:
                run.failures[index] = str(error)
                continue
            except FAILURES as error:  # surgery runs the network to see what it does
                LOGGER.warning("an arm was not prepared", exc_info=error)
                run.failures[index] = f"it cannot be prepared: {cause_of(error)}"
                run.unforeseen.add(index)
                continue
            run.members.extend(members)
            parameters = members[0].network.parameters
            run.parameters[index] = sum(one.numel() for one in parameters.values())
        return run

    def _arm(self, index: int, arm: Arm, run: _Run) -> ArmOutcome:
        if index in run.failures:
            failure, unforeseen = run.failures[index], index in run.unforeseen
            return ArmOutcome(name=arm.name, failure=failure, unforeseen=unforeseen)
        return ArmOutcome(
            name=arm.name,
            trials=tuple(
                _outcome(run.trials[index, seed]) for seed in run.training.seeds
            ),
            parameters=run.parameters[index],
        )

    def out_of_fold(self, training: Training) -> np.ndarray | None:
        """Have members say what the training rows are that they left out.

        Args:
            training: of one arm, with folds.

        Returns:
            float64, (training rows, classes): probabilities, the mean over the members
            that left a row out; NaN where none did. None where the arm cannot be
            trained.
        """
        run = self._prepared(training)
        rows, classes = len(self.material.train), self.material.classes
        total, count = np.zeros((rows, classes)), np.zeros((rows, 1))
        for group in stacks(run.members):
            try:
                stack = self._stack(group, training, run)
                stack.run(self._alarm(float("inf")), lambda _: None, 0)
            except FAILURES as error:
                self._give_up(group, error, run)
                continue
            for member in group:
                trial = (0, member.seed)
                raw = self._raw(member, stack, trial, "train", member.spared)
                said = member.head.log_probabilities(raw).exp().double()
                total[member.spared] += said.cpu().numpy()
                count[member.spared] += 1
        if run.failures:
            return None
        with np.errstate(invalid="ignore"):
            return np.asarray(total / count)

    def _raw(
        self,
        member: Member,
        stack: Stack,
        trial: tuple[int, int],
        split: str,
        places: Rows,
    ) -> Tensor:
        """Return what weights that were kept, by arm and seed, say of some rows."""
        row, buffers = stack.kept[trial]
        alone = {name: value[None] for name, value in buffers.items()}
        weights = Weights(stack.layout, row[None], alone)
        [raw] = outputs(
            member.network,
            weights,
            [member.scoring_pipe],
            self._split(split),
            places,
        )
        return raw

    def _level(self, member: Member, stack: Stack, arm: int, seed: int) -> float:
        """Balanced accuracy of kept weights on the rows that decide."""
        labels = self.material.decide.y
        raw = self._raw(member, stack, (arm, seed), "decide", np.arange(len(labels)))
        return marks(member.head, member, raw, labels).balanced_accuracy

    def _keep(
        self,
        keep: int | None,
        run: _Run,
        kept: dict[tuple[int, int], tuple[Member, Stack]],
    ) -> tuple[str | None, int | None, float | None]:
        """Write the best member of an arm as TorchScript; returns its seed and level.

        The rows that decide choose it, so that those that judge it have chosen nothing.
        """
        seeds = [seed for arm, seed in kept if arm == keep]
        if keep is None or not seeds:
            return None, None, None
        levels = {seed: self._level(*kept[keep, seed], keep, seed) for seed in seeds}
        best = max(seeds, key=levels.__getitem__)
        member, stack = kept[keep, best]
        row, buffers = stack.kept[keep, best]
        try:
            module = packaged(member, stack.layout.parameters(row.cpu()), buffers)
        except SurgeryImpossible as error:
            run.notes.append(f"The repaired model cannot be given as a file: {error}.")
            return None, None, None
        if not is_complete(member):
            run.notes.append(
                "The repaired model expects its inputs changed as the repair says; its "
                "file does not do that."
            )
        elif member.pipe.steps:
            run.notes.append(
                "The repaired model prepares its inputs by itself: give it the data as "
                "they were uploaded."
            )
        name = f"kept-{run.training.digest()[:16]}.pt"
        with warnings.catch_warnings():  # TorchScript is what callers get back
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(module, str(self.material.scratch / name))
        return name, best, levels[best]


def _owner(group: list[Member], arm_seed: tuple[int, int]) -> Member:
    """Find the member that a trial belongs to."""
    for member in group:
        if any((end.arm, end.seed) == arm_seed for end in member.ends):
            return member
    raise LookupError(arm_seed)


def _outcome(trial: Trial) -> TrialOutcome:
    points = trial.curve
    return TrialOutcome(
        seed=trial.end.seed,
        correct=pack_mask(trial.held_out.correct),
        spared=pack_mask(trial.spared.correct) if trial.spared else None,
        accuracy=trial.held_out.accuracy,
        balanced_accuracy=trial.held_out.balanced_accuracy,
        log_loss=trial.held_out.log_loss,
        train_accuracy=trial.train.accuracy,
        train_balanced_accuracy=trial.train.balanced_accuracy,
        train_loss=trial.train.loss,
        diverged=trial.diverged,
        curve=Curve(
            epoch=tuple(point.epoch for point in points),
            train_loss=tuple(
                None if one.train_loss is None else finite(one.train_loss)
                for one in points
            ),
            train_accuracy=tuple(point.train_accuracy for point in points),
            eval_loss=tuple(point.eval_loss for point in points),
            eval_balanced_accuracy=tuple(
                point.eval_balanced_accuracy for point in points
            ),
        ),
        signs=trial.signs,
    )
