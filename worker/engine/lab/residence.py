"""The data on the device: once, as delivered, whatever the number of members."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worker.engine.data import Split
from worker.engine.lab.batches import Flags, Rows
from worker.engine.lab.inputs import Pipe
from worker.engine.lab.losses import targets
from worker.engine.lab.members import Member
from worker.engine.lab.seeds import torch_generator


class ResidentSplit:
    """Inputs of one split on the device."""

    def __init__(self, split: Split, device: torch.device) -> None:
        """Move a split; on the CPU its memory is shared, not copied."""
        array = np.ascontiguousarray(split.x)
        if not array.flags.writeable:
            # torch wants to hear that nobody writes; nobody does.
            array = array.view()
            if not array.flags.owndata and array.base is not None:
                array = np.array(array)
        self.x = torch.from_numpy(array).to(device)
        self.y = split.y
        self.device = device

    @classmethod
    def joined(cls, one: "ResidentSplit", other: "ResidentSplit") -> "ResidentSplit":
        """Put the rows of another split behind those of one: a copy of both."""
        both = cls.__new__(cls)
        both.x = torch.cat([one.x, other.x.to(one.x.dtype)])
        both.device = one.device
        both.y = np.concatenate([one.y, other.y])
        return both

    @property
    def values_a_row(self) -> int:
        """Numbers in a sample."""
        return int(np.prod(self.x.shape[1:]))

    def inputs(self, places: Tensor, pipe: Pipe, dtype: torch.dtype) -> Tensor:
        """Gather and transform rows.

        Args:
            places: int64, any shape.
            pipe: of the arm.
            dtype: of the network; token ids stay what they are.

        Returns:
            (*shape of places, *sample shape).
        """
        x = self.x.index_select(0, places.reshape(-1))  # copies rows whole
        if x.dtype != torch.int64:
            x = x.to(dtype)
        return pipe(x).view(*places.shape, *x.shape[1:])


class Feed:
    """Batches of all members of a stack, some steps at a time."""

    def __init__(
        self, train: ResidentSplit, members: list[Member], dtype: torch.dtype
    ) -> None:
        """Find what members share, so that it is worked out once."""
        self._train, self._members, self._dtype = train, members, dtype
        self._streams = _numbering([_stream_key(member) for member in members])
        losses = _numbering([one.recipe.loss for one in members])
        pairs = list(zip(self._streams[1], losses[1], strict=True))
        self._targets = _numbering(pairs)
        # Who learns by one loss gets its targets in one go, stream by stream.
        self._by_loss = [
            (
                members[first],
                [p for p, (_, k) in enumerate(dict.fromkeys(pairs)) if k == loss],
            )
            for loss, first in enumerate(losses[0])
        ]
        self._pipes = _numbering([one.pipe.key for one in members])
        self._augmented = any(member.pipe.augment for member in members)

    def take(self, start: int, steps: int) -> tuple[Tensor, Tensor, Tensor, Flags]:
        """Return batches `start` … of every member.

        Returns:
            x: (steps, members, rows, *sample shape); target: (steps, members, rows,
            columns); weight: (steps, members, rows); and bool, (steps, rows), whether
            any member has a real row there.
        """
        device = self._train.device
        drawn = [
            self._members[first].stream.take(start, steps) for first in self._streams[0]
        ]
        places = np.stack([places for places, _ in drawn], 1)
        real = np.stack([flags for _, flags in drawn], 1)
        target, weight = self._labels(drawn, real)
        if self._targets[1] != list(range(len(self._members))):
            which = torch.tensor(self._targets[1], device=device)
            target, weight = target[:, which], weight[:, which]
        return self._inputs(places, start), target, weight, np.asarray(real.any(1))

    def _labels(
        self, drawn: list[tuple[Rows, Flags]], real: Flags
    ) -> tuple[Tensor, Tensor]:
        """Return targets and weights of each stream with each loss that uses it."""
        device = self._train.device
        streams = [self._streams[1][first] for first in self._targets[0]]
        labels = [
            self._members[first].view.labels[places]
            for first, (places, _) in zip(self._streams[0], drawn, strict=True)
        ]
        y = torch.from_numpy(np.stack(labels, 1)).to(device)
        flags = torch.from_numpy(real).to(device)
        found: list[tuple[Tensor, Tensor]] = [(y, y)] * len(streams)
        for member, pairs in self._by_loss:
            mine = [streams[pair] for pair in pairs]
            target, weight = targets(
                member.form, member.recipe.loss, y[:, mine], flags[:, mine], self._dtype
            )
            if len(self._by_loss) == 1:
                return target, weight
            for at, pair in enumerate(pairs):
                found[pair] = target[:, at], weight[:, at]
        return (
            torch.stack([target for target, _ in found], 1),
            torch.stack([weight for _, weight in found], 1),
        )

    def _inputs(self, places: Rows, start: int) -> Tensor:
        """Args: places: int64, (steps, streams, rows)."""
        device = self._train.device
        everyone = torch.from_numpy(places[:, self._streams[1]]).to(device)
        if len(self._pipes[0]) == 1 and not self._augmented:
            pipe = self._members[0].pipe
            return self._train.inputs(everyone, pipe, self._dtype)
        parts: list[Tensor] = [torch.empty(0)] * len(self._members)
        for number, first in enumerate(self._pipes[0]):
            pipe = self._members[first].pipe
            mine = [k for k, n in enumerate(self._pipes[1]) if n == number]
            x = self._train.inputs(everyone[:, mine], pipe, self._dtype)
            for at, k in enumerate(mine):
                parts[k] = x[:, at]
                if pipe.augment is not None:
                    parts[k] = self._augment(k, x[:, at], start)
        return torch.stack(parts, 1)

    def _augment(self, k: int, x: Tensor, start: int) -> Tensor:
        augment = self._members[k].pipe.augment
        if augment is None:
            return x
        seed = self._members[k].seed
        return torch.stack(
            [
                augment(
                    batch,
                    torch_generator(x.device, seed, "augment", start + step),
                )
                for step, batch in enumerate(x)
            ]
        )


class Noise:
    """Uniform numbers for dropout: one draw a seed and site, shared by its members.

    Drawn in blocks whose length depends on the shape of the site alone, so that what a
    member sees does not depend on who shares its stack.
    """

    _BLOCK_VALUES = 1 << 20

    def __init__(
        self, members: list[Member], shapes: list[tuple[int, ...]], like: Tensor
    ) -> None:
        """Args: shapes: of the dropout sites, for one member."""
        self._numbering = _numbering([member.seed for member in members])
        self._seeds = [members[first].seed for first in self._numbering[0]]
        self._which = torch.tensor(self._numbering[1], device=like.device)
        self._same = self._numbering[1] == list(range(len(members)))
        self._shapes, self._like = shapes, like
        # Steps that one draw serves.
        self._lengths = [
            max(1, min(32, self._BLOCK_VALUES // int(np.prod(shape))))
            for shape in shapes
        ]
        self._held: list[tuple[int, tuple[Tensor, ...]]] = [(-1, ())] * len(shapes)

    def at(self, step: int) -> tuple[Tensor, ...]:
        """Return the noise of a step: one a site, (members, *shape of the site)."""
        return tuple(self._site(site, step) for site in range(len(self._shapes)))

    def _site(self, site: int, step: int) -> Tensor:
        number, within = divmod(step, self._lengths[site])
        if self._held[site][0] != number:
            self._held[site] = number, self._drawn(site, number).unbind()
        block = self._held[site][1][within]
        return block if self._same else block[self._which]

    def _drawn(self, site: int, number: int) -> Tensor:
        """Draw a block: (steps, seeds, *shape of the site)."""
        draws = [
            torch.rand(
                (self._lengths[site], *self._shapes[site]),
                generator=torch_generator(
                    self._like.device, seed, "dropout", site, number
                ),
                dtype=self._like.dtype,
                device=self._like.device,
            )
            for seed in self._seeds
        ]
        return torch.stack(draws, 1)


def _stream_key(member: Member) -> tuple[object, ...]:
    return (member.seed, member.view.key, member.stream.batch, member.stream.sampler)


def _numbering(
    keys: Sequence[object],
) -> tuple[list[int], list[int]]:
    """Return where each distinct key stands first, and the number of each key."""
    numbers: dict[object, int] = {}
    firsts: list[int] = []
    for at, key in enumerate(keys):
        if key not in numbers:
            numbers[key] = len(firsts)
            firsts.append(at)
    return firsts, [numbers[key] for key in keys]
