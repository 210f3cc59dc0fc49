"""One experiment of a report, trained again: `python -m worker.replay REQUEST.json`.

The request is `{"report": {…}, "experiment": "exp_…", "model": PATH, "dataset": PATH,
"spec": {…}}`. Prints JSON lines as `worker.local` does, at the end
`{"replay": {"arms": [{"name", "reported", "replayed", "same"}]}}`: mean balanced
accuracy over the seeds, as reported and as trained here.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from service.contract.errors import BadRequest, Crashed, NotFound, Problem
from service.contract.report import Report, ReportExperiment
from worker.engine.lab.experiment import Training
from worker.failures import ChildFailed
from worker.local import MEMORY_BYTES, LocalAudit, say
from worker.sandbox import Child

TOLERANCE = 5e-7  # reported figures are rounded to six digits


def experiment_of(report: Report, identity: str) -> dict[str, Any]:
    """Rebuild an experiment from what the report says of it.

    Raises:
        NotFound: the report holds no such experiment.
        BadRequest: it trained nothing.
    """
    known = {experiment.id: experiment for experiment in report.experiments}
    if identity not in known:
        raise NotFound(f"the report holds no experiment {identity}")
    found: ReportExperiment = known[identity]
    if found.kind != "training" or not found.arms:
        raise BadRequest(f"{identity} is a measurement; only trainings are replayed")
    # Whatever else an experiment may set stands in the report under its own name.
    more = {
        key: found.settings[key]
        for key in Training.model_fields
        if key in found.settings and key != "rows"
    }
    return {
        **more,
        "kind": "training",
        "round": found.round,
        "question": found.question,
        "arms": [{"name": arm.name, "changes": arm.changes} for arm in found.arms],
        "seeds": found.arms[0].seeds,
        "rows": found.settings.get("rows_asked"),
    }


def compare(report: Report, identity: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """Put reported and replayed figures side by side."""
    arms = []
    reported = next(e for e in report.experiments if e.id == identity).arms
    for arm, ran in zip(reported, outcome["arms"], strict=True):
        scores = [trial["balanced_accuracy"] for trial in ran["trials"]]
        here = sum(scores) / len(scores) if scores else None
        there = arm.metrics.get("balanced_accuracy")
        same = (
            isinstance(there, int | float)
            and here is not None
            and abs(here - there) <= TOLERANCE
        ) or (here is None and there is None)
        arms.append(
            {"name": arm.name, "reported": there, "replayed": here, "same": same}
        )
    return {"arms": arms}


def replay(request: dict[str, Any]) -> int:
    """Run one request; returns the exit code."""
    try:
        report = Report.model_validate(request["report"])
        experiment = experiment_of(report, request["experiment"])
        again = {
            "model": request["model"],
            "dataset": request["dataset"],
            "spec": request.get("spec") or {},
            "audit": {
                "recipe": report.recipe.given.model_dump(
                    mode="json", exclude_none=True
                ),
                "seed": report.environment.seed,
            },
        }
        with (
            tempfile.TemporaryDirectory(prefix="model-audit-") as folder,
            Child.start(
                device=request.get("device", "cpu"),
                scratch=Path(folder),
                memory_bytes=MEMORY_BYTES,
                keep_template=False,
            ) as child,
        ):
            running = LocalAudit(again, child)
            running.open()
            outcome = running.train(experiment)
    except Problem as problem:
        say("problem", problem.document().model_dump(mode="json"))
        return 3
    except ChildFailed as failure:
        document = Crashed(f"The audit's process ended early: {failure}.").document()
        say("problem", document.model_dump(mode="json"))
        return 3
    say("replay", compare(report, request["experiment"], outcome))
    return 0


if __name__ == "__main__":
    sys.exit(replay(json.loads(Path(sys.argv[1]).read_text())))
