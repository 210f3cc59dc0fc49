"""A stack: members that are trained together, step by step, until each is done."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from worker.engine.lab.evaluation import Marks, Weights, finite
from worker.engine.lab.gradients import Batch, Buffers, Gradients, Graphs, Layout
from worker.engine.lab.materials import Clock
from worker.engine.lab.members import End, Member
from worker.engine.lab.optimizers import Setting, StackedOptimizer, column
from worker.engine.lab.residence import Feed, Noise, ResidentSplit
from worker.engine.lab.schedules import factor
from worker.engine.lab.scoring import Point, Scorer
from worker.engine.lab.signs import (
    EARLY_STEPS,
    EarlySigns,
    oscillation,
    size_distance,
    untouched,
)
from worker.engine.lab.threads import threads

_CHUNK_BYTES = 16 << 20  # of inputs gathered at once
_CHUNK_STEPS = 64
_CHUNK_SECONDS = 1.0  # after which the clock is looked at, where steps are slow
_CAPTURE_SECONDS = 0.03  # about what tracing a step costs
_CAPTURE_SAVES = 0.0015  # seconds a step, about what a traced step of a small one saves
SETTLED = 0.003  # of the first loss, or of what guessing costs where that is less
_SHORT_MEASURE = 0.02  # seconds for which steps are measured, however short they are
_LONG_MEASURE = 0.25  # seconds, after which steps were measured well enough
_SLOW_STEP = 1.0  # seconds; beside it, what only the first step needs is nothing


@dataclass
class Trial:
    """What came out of one trial of a member."""

    end: End
    held_out: Marks
    train: Marks
    spared: Marks | None
    diverged: bool
    curve: list[Point]
    signs: dict[str, float | None]


@dataclass
class _Track:
    """What is known of a member while it is trained."""

    member: Member
    place: int
    losses: list[np.ndarray] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    diverged: bool = False
    pending: list[End] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    early: dict[str, float | None] = field(default_factory=dict)
    settled_after: float | None = None

    @property
    def is_active(self) -> bool:
        return bool(self.pending)

    @property
    def is_settled(self) -> bool:
        """Whether hardly any loss was left when it was last looked at."""
        last = self.points[-1].train_loss if self.points else None
        if last is None:
            return False
        first = min(float(self.losses[0][0]), math.log(self.member.form.classes))
        return 0 <= last <= SETTLED * first


class Stack:
    """Trains members of one kind and scores each where its trials end."""

    def __init__(
        self,
        members: Sequence[Member],
        train: ResidentSplit,
        scorer: Scorer,
        graphs: Graphs,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Draw initial weights and lay them out, one row a member.

        Args:
            members: of one kind, see `Member.stack`; those whose optimisers agree
                are put side by side.
            train: training rows.
            scorer: of the experiment.
            graphs: steps captured so far; it is added to.
            clock: seconds, by which steps are timed.
        """
        self.members = sorted(members, key=_agreement)
        self._train, self._scorer, self._clock = train, scorer, clock
        network = self.members[0].network
        starts = [member.start() for member in self.members]
        self.layout = Layout.of(starts[0][0])
        device = train.device
        self.rows = torch.stack([self.layout.row(one) for one, _ in starts]).to(device)
        self.buffers: Buffers = {
            name: torch.stack([buffers[name] for _, buffers in starts]).to(device)
            for name in starts[0][1]
        }
        self.optimizer = StackedOptimizer.fresh(
            [member.recipe.optimizer for member in self.members], self.rows
        )
        steps = max(member.steps for member in self.members)
        self.gradients = Gradients(
            network,
            self.members[0].form,
            self.layout,
            capture=steps * _CAPTURE_SAVES > _CAPTURE_SECONDS,
            graphs=graphs,
            steps=steps,
        )
        self._has_norm = bool(self.buffers)
        self._scheduled = any(one.recipe.schedule for one in self.members)
        self._tracks = [_Track(one, k) for k, one in enumerate(self.members)]
        for track in self._tracks:
            track.pending = sorted(track.member.ends, key=lambda end: end.step)
            track.moments = scorer.moments(track.member)
        self.trials: list[Trial] = []
        self.kept: dict[tuple[int, int], tuple[Tensor, Buffers]] = {}
        self.steps_done = 0
        self._safe: tuple[Tensor, Buffers] | None = None
        self._arrange()

    def _arrange(self) -> None:
        """Prepare the feed for the members that are left."""
        left = [track.member for track in self._tracks]
        self._feed = Feed(self._train, left, self.rows.dtype)
        self._early = EarlySigns(self.layout, len(left))
        network, batch = left[0].network, left[0].stream.batch
        places = torch.arange(batch, device=self.rows.device) % len(self._train.y)
        sample = self._train.inputs(places, left[0].pipe, self.rows.dtype)
        shapes = network.noise_shapes(sample)
        self._noise = Noise(left, shapes, self.rows)
        self._batch = batch
        held = sample.element_size() * sample.numel() * len(left)
        self.most_steps = max(1, min(_CHUNK_STEPS, _CHUNK_BYTES // max(1, held)))

    def run(
        self,
        should_stop: Callable[[float], bool],
        progress: Callable[[int], None],
        keep_arm: int | None = None,
    ) -> bool:
        """Train until every member is done.

        Args:
            should_stop: asked between chunks; told the seconds that scoring will take.
            progress: told how many member steps a chunk took.
            keep_arm: arm whose final weights are remembered in `kept`.

        Returns:
            Whether it was stopped before the end.
        """
        # Moments of parameters that no gradient reaches any more fade into denormal
        # numbers, on which the processor is many times slower; nothing depends on them.
        torch.set_flush_denormal(True)
        try:
            return self._run(should_stop, progress, keep_arm)
        finally:
            torch.set_flush_denormal(False)

    def _run(
        self,
        should_stop: Callable[[float], bool],
        progress: Callable[[int], None],
        keep_arm: int | None,
    ) -> bool:
        step, checked, affordable, scoring = 0, 0, 1, 0.0
        self._remember()
        self._finish(step, keep_arm)  # what is not trained at all
        while any(track.is_active for track in self._tracks):
            if step and should_stop(scoring):  # everyone makes some steps
                self._leave_all(keep_arm)
                return True
            # Where members are checked must not depend on how fast this machine is.
            due = min(self._next_event(step), checked + _CHUNK_STEPS)
            ahead = min(due - step, self.most_steps, affordable)
            started = self._clock()
            losses = self.advance(step, ahead)
            seconds = (self._clock() - started) / ahead
            affordable = max(1, int(_CHUNK_SECONDS / max(1e-9, seconds)))
            if step:  # the first steps are recorded, too
                # As dear a row as training: too much for most, just for slow networks.
                scoring = seconds * self._scorer.rows / self._batch
            step += ahead
            active = [track for track in self._tracks if track.is_active]
            for track in active:
                track.losses.append(losses[:, track.place])
            self.steps_done += ahead * len(active)
            progress(ahead * len(active))
            if step == due:
                self._check(losses, step, keep_arm)
                checked = step
                self._record(step)
                self._finish(step, keep_arm)
                self._settle(step, keep_arm)
                self._compact(step)
        return False

    def _next_event(self, step: int) -> int:
        """Return the next step after `step` at which someone is looked at."""
        found = [EARLY_STEPS] if step < EARLY_STEPS else []
        for track in self._tracks:
            if track.is_active:
                found.append(next(end.step for end in track.pending))
                found.extend(moment for moment in track.moments if moment > step)
        return min(moment for moment in found if moment > step)

    def advance(self, start: int, steps: int) -> np.ndarray:
        """Make some steps. Returns float, (steps, members)."""
        x, target, weight, real = self._feed.take(start, steps)
        seen = []
        batches = zip(x.unbind(), target.unbind(), weight.unbind(), strict=True)
        with threads(self.gradients.threads):
            for t, (inputs, wanted, weighed) in enumerate(batches):
                batch = Batch(inputs, self._noise.at(start + t), wanted, weighed)
                if self._has_norm and (rows := int(real[t].sum())) < self._batch:
                    batch = _shortened(batch, rows)
                seen.append(self._step(start + t, batch))
        losses = torch.stack(seen).detach().cpu()
        # numpy has no word for bfloat16.
        return (losses.float() if losses.dtype == torch.bfloat16 else losses).numpy()

    def _step(self, step: int, batch: Batch) -> Tensor:
        gradient, loss, self.buffers = self.gradients(self.rows, self.buffers, batch)
        is_early = step < EARLY_STEPS
        before = self.rows.clone() if is_early else self.rows
        if is_early:
            self._early.see_gradient(gradient)
        self.optimizer.step(self.rows, gradient, self._factor(step))
        if is_early:
            self._early.see_update(before, self.rows)
        return loss

    def _factor(self, step: int) -> Setting:
        if not self._scheduled:
            return 1.0
        values = [
            factor(
                track.member.recipe.schedule,
                step=step,
                steps_an_epoch=track.member.pace,
                epochs=track.member.recipe.epochs,
            )
            for track in self._tracks
        ]
        return column(values, self.rows)

    def _remember(self) -> None:
        if self._safe is None or self._safe[0].shape != self.rows.shape:
            self._safe = (
                self.rows.clone(),
                {name: value.clone() for name, value in self.buffers.items()},
            )
            return
        rows, buffers = self._safe  # written to again: large ones are slow to get
        rows.copy_(self.rows)
        for name, value in buffers.items():
            value.copy_(self.buffers[name])

    def _check(self, losses: np.ndarray, step: int, keep_arm: int | None) -> None:
        """Freeze members whose numbers are not finite, at their last finite weights."""
        assert self._safe is not None
        fine = _finite_rows(self.rows)
        for value in self.buffers.values():
            fine &= _finite_rows(value)
        good = fine.cpu().numpy() & ~np.isnan(losses[-1])
        for track in self._tracks:
            if good[track.place] or not track.is_active:
                continue
            self.rows[track.place] = self._safe[0][track.place]
            for name, value in self.buffers.items():
                value[track.place] = self._safe[1][name][track.place]
            track.diverged = True
        self._remember()
        fallen = [one for one in self._tracks if one.diverged and one.is_active]
        self._leave([(track, list(track.pending)) for track in fallen], keep_arm)

    def _record(self, step: int) -> None:
        due = [one for one in self._tracks if step in one.moments and one.is_active]
        if not due:
            return
        points = self._scorer.points(
            [track.member for track in due],
            self._weights([track.place for track in due]),
        )
        for track, point in zip(due, points, strict=True):
            recent = np.concatenate(track.losses)[-max(1, step // 12) :]
            point.epoch = step / track.member.pace
            point.step = step
            point.train_loss = float(recent.mean())
            track.points.append(point)

    def _finish(self, step: int, keep_arm: int | None) -> None:
        due = [
            (track, [end for end in track.pending if end.step == step])
            for track in self._tracks
        ]
        self._leave([(track, ends) for track, ends in due if ends], keep_arm)

    def _settle(self, step: int, keep_arm: int | None) -> None:
        """End what goes on for longer than the recipe and has nothing left to learn."""
        settled = [
            track
            for track in self._tracks
            if track.is_active and track.member.given < step and track.is_settled
        ]
        for track in settled:
            track.settled_after = step / track.member.pace
        self._leave([(track, list(track.pending)) for track in settled], keep_arm)

    def _leave_all(self, keep_arm: int | None) -> None:
        active = [track for track in self._tracks if track.is_active]
        self._leave([(track, list(track.pending)) for track in active], keep_arm)

    def _leave(
        self, leaving: list[tuple[_Track, list[End]]], keep_arm: int | None
    ) -> None:
        """Score the present weights of members for the trials that end here."""
        if not leaving:
            return
        members = [track.member for track, _ in leaving]
        weights = self._weights([track.place for track, _ in leaving])
        scores = self._scorer.final(members, weights)
        shown = self._scorer.activity(members, weights)
        early = self._early.values()
        for at, (track, due) in enumerate(leaving):
            held_out, train, spared = scores[at]
            signs = self._signs(track, early[track.place], shown[at])
            for end in due:
                track.pending.remove(end)
                own = set(self._scorer.moments_of(end))
                points = [point for point in track.points if point.step in own]
                own_signs = signs
                if end.shows_weights and not track.diverged:
                    trained = self.layout.parameters(self.rows[track.place])
                    drawn, _ = track.member.start()
                    own_signs = {**signs, **untouched(trained, drawn)}
                self.trials.append(
                    Trial(
                        end, held_out, train, spared, track.diverged, points, own_signs
                    )
                )
                if end.arm == keep_arm:
                    self.kept[end.arm, end.seed] = self._copied(track.place)

    def _signs(
        self,
        track: _Track,
        early: dict[str, float | None],
        shown: dict[str, float | None],
    ) -> dict[str, float | None]:
        losses = np.concatenate([*track.losses, np.empty(0)])
        signs = {
            "first_loss": float(losses[0]) if len(losses) else None,
            "oscillation": oscillation(losses),
            "size_distance": size_distance(
                self.layout.parameters(self.rows[track.place]),
                track.member.network.parameters,
            ),
            "settled_after": track.settled_after,
            **(track.early or early),
            **shown,
        }
        return {
            name: None if value is None else finite(value)
            for name, value in signs.items()
        }

    def _copied(self, place: int) -> tuple[Tensor, Buffers]:
        buffers = {name: value[place].clone() for name, value in self.buffers.items()}
        return self.rows[place].clone(), buffers

    def _weights(self, places: list[int]) -> Weights:
        return Weights(self.layout, self.rows, self.buffers).chosen(places)

    def _compact(self, step: int) -> None:
        """Close ranks once enough members have left to be worth a new capture."""
        left = [track for track in self._tracks if track.is_active]
        if not left or len(left) == len(self._tracks):
            return
        remaining = max(track.member.steps for track in left) - step
        share = 1 - len(left) / len(self._tracks)
        if self.gradients.capture and remaining * share * self._seconds() < max(
            _CAPTURE_SECONDS, self.gradients.trace_seconds
        ):
            return
        places = torch.tensor([track.place for track in left], device=self.rows.device)
        early = self._early.values()
        for track in left:
            track.early = track.early or early[track.place]
        self.rows = self.rows[places]
        self.buffers = {name: value[places] for name, value in self.buffers.items()}
        self.optimizer.keep(places, self.rows)
        self.gradients.moved()
        for k, track in enumerate(left):
            track.place = k
        self._tracks = left
        self._remember()
        self._arrange()

    def _seconds(self) -> float:
        """Return what a step takes at present."""
        if self._timed is None:
            self._timed = self.time_step()
        return self._timed

    _timed: float | None = None

    def time_step(self, steps: int = 3, *, spend: bool = False) -> float:
        """Measure the seconds of a step: the median, as others may disturb some.

        The batch of one member serves all: only time is measured.

        Args:
            steps: of slow ones fewer are measured, of short ones more.
            spend: update the weights, too; otherwise they stay unchanged.
        """
        left = [track.member for track in self._tracks]
        members = len(left)
        alone = Feed(self._train, left[:1], self.rows.dtype).take(0, 1)
        x, target, weight = (
            one[0].expand(members, *one.shape[2:]).contiguous() for one in alone[:3]
        )

        def once(step: int) -> None:
            batch = Batch(x, self._noise.at(step), target, weight)
            gradient, _, _ = self.gradients(self.rows, self.buffers, batch)
            if spend:
                self.optimizer.step(self.rows, gradient, self._factor(0))

        start = self._clock()
        once(0)  # traces, and gets memory
        if not self.gradients.capture and self._clock() - start > _SLOW_STEP:
            return self._clock() - start
        took: list[float] = []
        with threads(self.gradients.threads):
            while not took or not (
                sum(took) > _LONG_MEASURE
                or (len(took) >= steps and sum(took) > _SHORT_MEASURE)
            ):
                start = self._clock()
                once(len(took) + 1)
                took.append(self._clock() - start)
        return statistics.median(took)


def _agreement(member: Member) -> tuple[float, ...]:
    settings = member.recipe.optimizer
    return settings.lr, settings.momentum, settings.weight_decay, settings.eps


def _finite_rows(value: Tensor) -> Tensor:
    """Say of each member whether all its numbers are finite: bool, (members,)."""
    flat = value.reshape(len(value), -1)
    fine = torch.isfinite(flat.sum(1))
    for k in torch.nonzero(~fine).flatten().tolist():  # a sum may overflow, too
        fine[k] = torch.isfinite(flat[k]).all()
    return fine


def _shortened(batch: Batch, rows: int) -> Batch:
    """Cut the padding off, for networks with batch statistics."""
    full = batch.x.shape[1]
    return Batch(
        batch.x[:, :rows].contiguous(),
        tuple(
            noise[:, :rows].contiguous() if noise.shape[1] == full else noise
            for noise in batch.noise
        ),
        batch.target[:, :rows].contiguous(),
        batch.weight[:, :rows].contiguous(),
    )
