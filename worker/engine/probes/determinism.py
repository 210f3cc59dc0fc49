"""Whether outputs change from call to call, or with the company in the batch.

The archive itself is run, as delivered. Differences are relative to the spread of the
outputs; below `tolerance` they are arithmetic, not behaviour.

Values:
    repeat: the same batches twice; `changed` (share of predictions), `difference`.
    company: the same rows in other batches; likewise.
    alone: rows one by one; likewise, or `error` where a single row is refused.
    mixes: whether the company matters in evaluation mode, too, where no layer of the
        graph takes figures of the batch: then something mixes samples, such as a
        recurrent layer that takes the batch for time, or a softmax over the batch.
    gain: accuracy in evaluation mode minus that as delivered, paired, on `decide`.
    before, after: balanced accuracy as delivered and in evaluation mode.
    baked_training: what the graph shows, None where it shows nothing.
    varies: whether any of the three differences exceeds the tolerance.
"""

import numpy as np
import torch
from torch import Tensor

from service.contract.errors import UnusableModel
from worker.engine.data import Split
from worker.engine.probes.agreement import TOLERANCE, compare, exceeds
from worker.engine.probes.inputs_as_trained import (
    AsTrained,
    as_delivered,
    outputs,
    predictions,
)
from worker.engine.probes.material import (
    Array,
    Material,
    Values,
    choose,
    few,
    integer,
    sample_places,
)
from worker.engine.probes.selection import as_values, balanced
from worker.engine.stats.intervals import paired_balanced_accuracy

MOST_ROWS = 2_000
PASSES = 4
LEAST_ROWS = 16
ALONE_ROWS = 16
COMPANY_ROWS = 32
SEED = 0
NEEDS_COMPANY = "Expected more than 1 value per channel when training"  # torch's words


def measure(material: Material, settings: Values) -> Values:
    """Run the archive repeatedly; settings: `rows`."""
    most = min(
        integer(settings, "rows", MOST_ROWS), few(material, PASSES, least=LEAST_ROWS)
    )
    split = choose(material.decide, sample_places(material.decide.y, most))
    prepare = AsTrained(material)
    with torch.random.fork_rng():
        torch.random.manual_seed(SEED)
        return _measure(material, split, prepare)


def _measure(material: Material, split: Split, prepare: AsTrained) -> Values:
    first = as_delivered(material, split.x, prepare)
    second = as_delivered(material, split.x, prepare)
    order = np.random.default_rng(SEED).permutation(len(split))
    mixed = as_delivered(material, split.x[order], prepare, COMPANY_ROWS)
    mixed = mixed[torch.from_numpy(np.argsort(order))]
    evaluated = outputs(material, split.x, prepare)

    repeat = compare(material, first, second)
    company = compare(material, first, mixed)
    alone = _alone(material, split.x[:ALONE_ROWS], first[:ALONE_ROWS], prepare)
    baked = getattr(material.network.facts, "baked_training", None)
    mixes = (
        baked is False
        and (exceeds(company) or exceeds(alone))
        and _mixes(material, split.x[:COMPANY_ROWS], prepare)
    )
    before = np.asarray(predictions(material, first) == split.y, dtype=np.bool_)
    after = np.asarray(predictions(material, evaluated) == split.y, dtype=np.bool_)
    refused = alone.get("error")
    return {
        "notes": [f"A sample that comes alone is not answered. {refused}"]
        if refused
        else [],
        "rows": len(split),
        "repeat": repeat,
        "company": company,
        "alone": alone,
        "gain": as_values(paired_balanced_accuracy(before, after, split.y)),
        "before": balanced(before, split.y),
        "after": balanced(after, split.y),
        "baked_training": baked,
        "mixes": mixes,
        "tolerance": TOLERANCE,
        "varies": any(exceeds(part) for part in (repeat, company, alone)),
    }


def _mixes(material: Material, x: Array, prepare: AsTrained) -> bool:
    """Whether rows get other answers among others, in evaluation mode."""
    half = max(1, len(x) // 2)
    together = outputs(material, x, prepare)
    again = outputs(material, x, prepare)
    apart = torch.cat(
        [
            outputs(material, x[rows], prepare)
            for rows in (slice(half), slice(half, None))
        ]
    )
    return exceeds(compare(material, together, apart)) and not exceeds(
        compare(material, together, again)
    )


def _alone(material: Material, x: Array, first: Tensor, prepare: AsTrained) -> Values:
    try:
        return compare(material, first, as_delivered(material, x, prepare, 1))
    except UnusableModel as problem:
        text = problem.detail
        return {
            "changed": None,
            "difference": None,
            "error": text,
            "needs_company": NEEDS_COMPANY in text,
        }
