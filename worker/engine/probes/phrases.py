"""Token ids as a few numbers: which tokens, pairs and triples of them a sample holds.

Latent semantic analysis: runs of one to three tokens are counted in a hashed table,
the rare ones weigh more, and the table is reduced to its main directions. A count of
single tokens knows nothing of their order, by which languages, code and sequences
differ most.
Source: Deerwester et al. 1990, Indexing by latent semantic analysis, JASIS 41;
Weinberger et al. 2009, Feature hashing for large scale multitask learning, ICML.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from worker.engine.data import Dataset
from worker.engine.probes.features import CLIP, COMPONENTS, Features
from worker.engine.probes.material import Array, Floats

LONGEST = 3  # tokens of a run
BUCKETS = 2**14
DIRECTIONS = 100
MOST_RUNS = 4_000_000  # that are held at once
_PRIME, _FIELD = 1_000_003, 2**31 - 1


@dataclass(frozen=True)
class Phrases:
    """Turns token ids into columns, with figures of the training inputs.

    Attributes:
        weights: of the runs, by how few samples hold them.
        directions: of the weighted table.
        scale: float64, (columns,), deviation of the training columns.
    """

    weights: TfidfTransformer
    directions: TruncatedSVD
    scale: Floats

    @classmethod
    def fit(cls, x: Array) -> "Phrases":
        """Measure training inputs: int, (rows, tokens)."""
        table = runs(x[:: -(-len(x) // _rows_at_once(x))])
        weights = TfidfTransformer(sublinear_tf=True)
        weighted = weights.fit_transform(table)
        most = max(1, min(DIRECTIONS, len(x) // 2, weighted.shape[1] - 1))
        directions = TruncatedSVD(most, random_state=0)
        scale = directions.fit_transform(weighted).std(0)
        return cls(weights, directions, np.where(scale > 0, scale, 1.0))

    def columns(self, x: Array) -> Floats:
        """Return scaled columns: float64, (rows, at most 100), the main ones first."""
        step = _rows_at_once(x)
        parts = [
            self.directions.transform(
                self.weights.transform(runs(x[start : start + step]))
            )
            for start in range(0, len(x), step)
        ]
        columns = np.concatenate(parts).astype(np.float64) / self.scale
        return np.clip(columns, -CLIP, CLIP)

    def reduced(self, x: Array) -> Floats:
        """Return at most 48 columns: float64, (rows, columns)."""
        return self.columns(x)[:, :COMPONENTS]


def _rows_at_once(x: Array) -> int:
    return max(1, MOST_RUNS // (LONGEST * max(1, x[:1].size)))


def runs(x: Array) -> sparse.csr_matrix:
    """Count runs of one to three tokens, by hash: float32, (rows, 16,384).

    Args:
        x: int, (rows, tokens).
    """
    tokens = x.reshape(len(x), -1).astype(np.int64) % _FIELD
    places = []
    for length in range(1, 1 + min(LONGEST, tokens.shape[1])):
        count = tokens.shape[1] - length + 1
        hashed: npt.NDArray[np.int64] = np.full((len(x), count), length, np.int64)
        for place in range(length):
            hashed = (hashed * _PRIME + tokens[:, place : place + count]) % _FIELD
        places.append(hashed % BUCKETS)
    columns = np.concatenate(places, axis=1)
    rows = np.repeat(np.arange(len(x)), columns.shape[1])
    ones = np.ones(columns.size, np.float32)
    table = sparse.csr_matrix(
        (ones, (rows, columns.ravel())), shape=(len(x), BUCKETS), dtype=np.float32
    )
    table.sum_duplicates()
    return table


def described_by(dataset: Dataset, x: Array) -> Features | Phrases:
    """Measure training inputs, to tell their classes: (rows, *sample shape)."""
    if dataset.kind == "tokens":
        return Phrases.fit(x)
    return Features.fit(dataset, x)
