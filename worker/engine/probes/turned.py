"""Pictures that are a mirrored or turned copy of another, as augmenting makes them."""

from collections.abc import Iterable

import numpy as np

from worker.engine.data import Dataset
from worker.engine.probes.duplicates import Digests, digests, first_equals
from worker.engine.probes.material import Array, Labels


def turned_twins(
    dataset: Dataset, train: Digests, pictures: Array, own: Digests
) -> Labels:
    """Point each picture to a training picture that equals it mirrored or turned.

    A picture that looks the same when turned tells nothing by that.

    Args:
        dataset: what the pictures are; of anything else there are no twins.
        train: uint64, (training rows, 2), digests.
        pictures: (rows, *sample shape).
        own: uint64, (rows, 2), their digests.

    Returns:
        int64, (rows,): -1 where there is none.
    """
    nothing = np.full(len(pictures), -1, dtype=np.int64)
    if dataset.kind != "image":
        return nothing
    found = np.stack([digests(turned) for turned in turned_forms(dataset, pictures)])
    # Sorted once, as the training pictures may be many.
    first = first_equals(np.concatenate([train, found.reshape(-1, found.shape[-1])]))
    twins = first[len(train) :].reshape(found.shape[:2])
    is_other = (found != own).any(2) & (twins < len(train))
    where = is_other.argmax(0)
    rows = np.arange(len(pictures))
    return np.where(is_other.any(0), twins[where, rows], nothing)


def turned_forms(dataset: Dataset, pictures: Array) -> Iterable[Array]:
    """The other seven ways in which a square lies, three of any rectangle.

    Args:
        dataset: what the pictures are.
        pictures: (rows, *sample shape).

    Yields:
        Arrays of the same shape.
    """
    is_first = dataset.layout == "NHWC" or pictures.ndim == 3  # noqa: PLR2004 - grey
    down = 1 if is_first else 2
    axes = (down, down + 1)
    is_square = pictures.shape[down] == pictures.shape[down + 1]
    for stood in (pictures, pictures.swapaxes(*axes))[: 1 + is_square]:
        for mirrored in ((), axes[:1], axes[1:], axes):
            if mirrored or stood is not pictures:
                yield np.flip(stood, mirrored)
