"""Whether outputs change from call to call, or with the company in the batch.

The archive itself is run, as delivered. Differences are relative to the spread of the
outputs; below `tolerance` they are arithmetic, not behaviour.

Values:
    repeat: the same batches twice; `changed` (share of predictions), `difference`.
    company: the same rows in other batches; likewise.
    alone: rows one by one; likewise, or `error` where a single row is refused.
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
from worker.engine.network.own_code import check_answer, on_samples, own_code
from worker.engine.probes.inputs_as_trained import AsTrained, outputs, predictions
from worker.engine.probes.material import (
    Array,
    Material,
    Values,
    batches,
    choose,
    few,
    finite,
    integer,
    sample_places,
)
from worker.engine.probes.selection import as_values, balanced
from worker.engine.stats.intervals import paired_balanced_accuracy

MOST_ROWS = 2_000
PASSES = 4
LEAST_ROWS = 16
ALONE_ROWS = 16
TOLERANCE = 1e-3  # largest difference that counts as arithmetic, in output deviations
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
    first = _as_delivered(material, split.x, prepare)
    second = _as_delivered(material, split.x, prepare)
    order = np.random.default_rng(SEED).permutation(len(split))
    mixed = _as_delivered(material, split.x[order], prepare, COMPANY_ROWS)
    mixed = mixed[torch.from_numpy(np.argsort(order))]
    evaluated = outputs(material, split.x, prepare)

    repeat = _compare(material, first, second)
    company = _compare(material, first, mixed)
    alone = _alone(material, split.x[:ALONE_ROWS], first[:ALONE_ROWS], prepare)
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
        "baked_training": getattr(material.network.facts, "baked_training", None),
        "tolerance": TOLERANCE,
        "varies": any(_exceeds(part) for part in (repeat, company, alone)),
    }


def _as_delivered(
    material: Material, x: Array, prepare: AsTrained, size: int = 256
) -> Tensor:
    parts = []
    for rows in batches(len(x), int(np.prod(x.shape[1:])), size):
        batch = prepare(x[rows]).cpu()  # where the archive was loaded
        with torch.no_grad(), own_code(on_samples(batch)):
            raw = material.network.as_delivered(batch)
        check_answer(raw, batch, material.head.outputs)
        parts.append(raw.detach())
    # A head that squeezes returns (classes,) for a single row.
    return torch.cat([part.reshape(-1, material.head.outputs) for part in parts])


def _alone(material: Material, x: Array, first: Tensor, prepare: AsTrained) -> Values:
    try:
        return _compare(material, first, _as_delivered(material, x, prepare, 1))
    except UnusableModel as problem:
        text = problem.detail
        return {
            "changed": None,
            "difference": None,
            "error": text,
            "needs_company": NEEDS_COMPANY in text,
        }


def _compare(material: Material, one: Tensor, other: Tensor) -> Values:
    a = one.reshape(len(one), -1).double()
    b = other.reshape(len(other), -1).double()
    good = torch.isfinite(a) & torch.isfinite(b)
    odd = bool((torch.isfinite(a) != torch.isfinite(b)).any())
    spread = float(a[torch.isfinite(a)].std()) if bool(good.any()) else 0.0
    largest = float((a - b).abs()[good].max()) if bool(good.any()) else 0.0
    changed = float(np.mean(predictions(material, one) != predictions(material, other)))
    # Constant outputs have no spread; then the difference counts against their size.
    scale = max(
        spread, 1e-6 * float(a[good].abs().max()) if bool(good.any()) else 0, 1e-12
    )
    return {
        "changed": changed,
        "difference": None if odd else finite(largest / scale),
        "non_finite": odd,
    }


def _exceeds(part: Values) -> bool:
    if part.get("needs_company") or part.get("non_finite"):
        return True
    difference = part.get("difference")
    return isinstance(difference, float) and difference > TOLERANCE
