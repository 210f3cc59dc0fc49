"""One audit inside the confined child: opens the files, runs what it is told.

Every method takes and returns plain JSON values, since they cross a process boundary.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue, TypeAdapter

from service.contract.causes import Cause
from service.contract.errors import (
    UnsupportedMediaType,
    UnusableModel,
)
from service.contract.request import (
    AuditRequest,
    BudgetSeconds,
    DatasetSpec,
)
from worker.engine.auditor import advance
from worker.engine.conclusion import conclude
from worker.engine.data import Dataset
from worker.engine.delivery import as_it_runs, within
from worker.engine.doubted_labels import SECOND_LOOK
from worker.engine.fitting import check_recipe, fit_inputs
from worker.engine.head import find_head, fitting_loss
from worker.engine.intake.facts import facts
from worker.engine.intake.limits import IntakeLimits
from worker.engine.intake.reader import read_dataset
from worker.engine.lab.bench import Bench, Material
from worker.engine.lab.experiment import (
    Experiment,
    Measurement,
    MeasurementOutcome,
    NetworkChange,
    Outcome,
    Training,
    TrainingOutcome,
)
from worker.engine.lab.materials import Clock
from worker.engine.ledger import Step
from worker.engine.memory import keep_freed_memory
from worker.engine.network.network import Network
from worker.engine.network.torch_export import load_torch_export
from worker.engine.network.torchscript import load_torchscript
from worker.engine.planning import EFFORTS, network_key
from worker.engine.probes.noise import second_look
from worker.engine.probes.table import PROBES
from worker.engine.recipe import complete
from worker.engine.results import BASELINE
from worker.engine.splits import Parts, make_parts
from worker.engine.subject import DataShape, NetworkShape, Subject
from worker.engine.trying import (
    as_trained,
    facts_as_seen,
    try_out,
    why_untrainable,
)

EXPERIMENTS: TypeAdapter[Experiment] = TypeAdapter(Experiment)
OUTCOMES: TypeAdapter[Outcome] = TypeAdapter(Outcome)
NETWORKS: TypeAdapter[list[tuple[NetworkChange, ...]]] = TypeAdapter(
    list[tuple[NetworkChange, ...]]
)
A_SMALL_STACK = 3  # members with which networks are compared
A_QUICK_STEP = 0.02  # seconds
PASSES_A_STEP = 3  # a step's forward and backward in passes of the delivered network
MOST_FOR_A_STEP = 0.05  # of the budget, to time one
MOST_BORROWED = 20_000  # training rows that, left out in turn, may help to decide

Progress = Callable[[float, str], None]


class Session:
    """Holds model and data of one audit, warm between its experiments."""

    def __init__(
        self,
        *,
        device: str,
        scratch: Path,
        progress: Progress,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Start without files.

        Args:
            device: `auto`, or as torch names it.
            scratch: folder for what experiments write.
            progress: told the fraction done, and what is being done.
            clock: seconds; what budgets are counted by.
        """
        if device == "auto":
            device = "cuda:0" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        keep_freed_memory()
        torch.set_num_threads(1)  # what has enough to do for more takes them, `threads`
        self.scratch = scratch
        self.progress = progress
        self.clock = clock
        self.subject: Subject | None = None
        self.material: Material | None = None
        self.bench: Bench | None = None
        self.header: dict[str, Any] = {}

    def inspect_model(self, file: BinaryIO, format: str) -> dict[str, JsonValue]:  # noqa: A002
        """Say what the graph shows.

        Raises:
            Problem: the file is no model that can be audited.
        """
        network = _load(file, format)
        return network.facts.model_dump(mode="json")

    def inspect_dataset(
        self,
        file: BinaryIO,
        format: str,  # noqa: A002
        spec: dict[str, Any],
    ) -> dict[str, JsonValue]:
        """Say what the dataset holds.

        Raises:
            Problem: the file is no dataset that can be audited.
        """
        return facts(_read(file, format, DatasetSpec.model_validate(spec)))

    def open(  # noqa: PLR0913 - the two files and what is known of them
        self,
        *,
        audit_id: str,
        model: BinaryIO,
        model_format: str,
        model_facts: dict[str, Any],
        dataset: BinaryIO,
        dataset_format: str,
        dataset_facts: dict[str, Any],
        spec: dict[str, Any],
        request: dict[str, Any],
    ) -> None:
        """Load both files and find out what the network's outputs mean.

        Raises:
            Problem: one cannot be opened, or they do not fit each other.
        """
        asked = AuditRequest.model_validate(request)
        read_spec = DatasetSpec.model_validate(spec)
        network = _load(model, model_format)
        data = _read(dataset, dataset_format, read_spec)
        network, data = fit_inputs(network, data, read_spec)
        parts = make_parts(data, seed=asked.seed)
        kept = replace(
            data,
            splits={
                "train": parts.train, "decide": parts.decide, "final": parts.final
            },
        )  # fmt: skip
        classes = len(data.class_names)
        check_recipe(asked, data)
        raw = try_out(network, parts.decide, self.device, self.clock)
        network.facts = facts_as_seen(network, raw)
        recipe, assumed = complete(
            asked.recipe,
            fitting_loss=fitting_loss(network),
            train_rows=len(parts.train),
        )
        recipe, broadcast = as_trained(network, recipe, parts.train)
        head = find_head(
            network,
            raw,
            classes=classes,
            loss=recipe.loss.name if asked.recipe.loss else None,
        )
        material = Material(
            network=network,
            train=parts.train,
            decide=parts.decide,
            final=parts.final,
            dataset=kept,
            recipe=recipe,
            head=head,
            device=self.device,
            scratch=self.scratch,
            clock=self.clock,
        )
        budget = asked.budget
        seconds = (
            0.9 * budget.seconds
            if isinstance(budget, BudgetSeconds)
            else EFFORTS[budget].seconds
        )
        material, parts = within(as_it_runs(material), parts, seconds)
        self.material = material
        network = material.network
        self.bench = Bench(self.material, self.progress)
        self.subject = Subject(
            network=_network_shape(network),
            data=DataShape(
                kind=data.kind,
                sample_shape=data.sample_shape,
                dtype=str(parts.train.x.dtype),
                rows={
                    "train": len(parts.train),
                    "decide": len(parts.decide),
                    "final": len(parts.final),
                },
                class_names=data.class_names,
                class_counts=tuple(
                    int(n) for n in np.bincount(parts.train.y, minlength=classes)
                ),
                feature_names=data.feature_names,
                held_out_given=parts.held_out_given,
                layout=data.layout,
            ),
            given=asked.recipe,
            recipe=recipe,
            assumed=assumed,
            head_kind=head.kind,
            fitting_loss=fitting_loss(network),
            labels=_labels(parts),
            wanted=frozenset(asked.checks or Cause),
            seed=asked.seed % 1_000_000,
            budget="seconds" if isinstance(budget, BudgetSeconds) else budget,
            budget_seconds=seconds,
            spec=read_spec,
            untrainable=why_untrainable(network, parts.train, classes),
            notes=(
                *data.notes,
                *parts.notes,
                *network.facts.notes,
                *broadcast,
                *_not_drawn(network),
            ),
        )
        self.header = {
            "audit_id": audit_id,
            "model": model_facts,
            "dataset": dataset_facts,
            "device": str(self.device),
            "torch": str(torch.__version__),
            "seed": asked.seed,
        }

    def advance(self, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
        """Say what to run next, or what the report is.

        Args:
            outcomes: `{"experiment": …, "outcome": …}` for everything that was run.
        """
        known = _outcomes_of(outcomes)
        return self._answer(advance(self._subject(), known))

    def conclude(self, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
        """Say what the report is where an audit was cancelled.

        Args:
            outcomes: as for `advance`; what is missing is not asked for any more.
        """
        known = _outcomes_of(outcomes)
        return self._answer(advance(self._subject(), known, is_cancelled=True))

    def _answer(self, step: Step) -> dict[str, Any]:
        report = None
        if step.learned is not None:
            found = conclude(self._subject(), step.learned, self.header)
            report = found.model_dump(mode="json")
        return {
            "stage": step.stage,
            "fraction": step.fraction,
            "detail": step.detail,
            "experiments": [e.model_dump(mode="json") for e in step.experiments],
            "report": report,
        }

    def run(self, experiment: dict[str, Any]) -> dict[str, Any]:
        """Run one experiment."""
        asked = EXPERIMENTS.validate_python(experiment)
        if isinstance(asked, Training):
            assert self.bench is not None
            outcome = self.bench.run(asked)
            _check_baseline(outcome)
            return outcome.model_dump(mode="json")
        return self._measure(asked).model_dump(mode="json")

    def _measure(self, asked: Measurement) -> MeasurementOutcome:
        assert self.material is not None
        assert self.bench is not None
        begin = self.clock()
        if asked.name == "cost":
            values = self._costs(asked.settings)
        elif asked.name == SECOND_LOOK:
            values = self._second_look(asked.settings)
        else:
            values = PROBES[asked.name](self.material, dict(asked.settings))
        notes = values.pop("notes", [])
        return MeasurementOutcome(
            values=values,
            seconds=self.clock() - begin,
            notes=tuple(str(n) for n in notes) if isinstance(notes, list) else (),
        )

    def _costs(self, settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Measure steps of the network as it is, or of networks relative to it.

        Settings: `networks`, lists of changes; without it the network as it is.
        """
        assert self.bench is not None
        asked = settings.get("networks")
        if asked is None:
            return {"step_seconds": self._step_seconds()}
        found: dict[str, JsonValue] = {}
        for changes in NETWORKS.validate_python(asked):
            members = 1
            took = self.bench.measure_step(members, changes)
            if took is not None and took < A_QUICK_STEP:  # what is small needs company
                members = A_SMALL_STACK
                took = self.bench.measure_step(members, changes)
            own = self.bench.measure_step(members)
            if took is not None and own:
                found[network_key(changes)] = took / own
        return {"relative": found}

    def _second_look(self, settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Have the network doubt the labels.

        Settings: `changes` of the arm that learns; `seeds`, `folds`; `mask` of rows
        that the first look would leave out.
        """
        assert self.bench is not None
        assert self.material is not None
        training = Training.model_validate(
            {
                "round": "remedy",
                "question": "",
                "arms": [{"name": "learner", "changes": settings["changes"]}],
                "seeds": settings["seeds"],
                "folds": settings["folds"],
            }
        )
        said = self.bench.out_of_fold(training)
        if said is None:
            return {"notes": []}
        mask = settings.get("mask")
        return second_look(self.material, said, mask if isinstance(mask, str) else None)

    def _step_seconds(self) -> dict[str, JsonValue]:
        """Time steps by number of members; one that takes too long is estimated."""
        assert self.material is not None
        assert self.bench is not None
        batch = min(self.material.recipe.batch_size, len(self.material.train))
        estimate = PASSES_A_STEP * batch * self.material.row_seconds
        if estimate > MOST_FOR_A_STEP * self._subject().budget_seconds:
            return {"1": estimate}
        return {str(n): self.bench.measure_step(n) for n in (1, 16)}

    def _subject(self) -> Subject:
        if self.subject is None:
            raise RuntimeError("open() comes first")
        return self.subject


def _not_drawn(network: Network) -> tuple[str, ...]:
    """Say which parameters no training draws anew."""
    names = network.untouched()
    if not names:
        return ()
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")  # noqa: PLR2004
    return (f"Trainings begin with {shown} as delivered: nothing says how to draw it.",)


def _outcomes_of(entries: list[dict[str, Any]]) -> dict[str, Outcome]:
    """Read what was run, by the experiments' digests."""
    return {
        EXPERIMENTS.validate_python(entry["experiment"]).digest():
        OUTCOMES.validate_python(entry["outcome"])
        for entry in entries
    }  # fmt: skip


def _labels(parts: Parts) -> dict[str, npt.NDArray[np.int64]]:
    """Labels of the rows that may decide: training rows only where they are few."""
    found = {"decide": parts.decide.y, "final": parts.final.y}
    if len(parts.train) <= MOST_BORROWED:
        found["train"] = parts.train.y
    return found


def _load(file: BinaryIO, format: str) -> Network:  # noqa: A002
    if format == "torchscript":
        return load_torchscript(file)
    if format == "torch_export":
        return load_torch_export(file)
    raise UnsupportedMediaType(f"models of the format {format!r} are not supported")


def _read(file: BinaryIO, format: str, spec: DatasetSpec) -> Dataset:  # noqa: A002
    return read_dataset(file, format, spec, IntakeLimits())


def _network_shape(network: Network) -> NetworkShape:
    shown = network.facts
    widths = [
        int(str(layer.detail["out"]))
        for layer in shown.layers
        if layer.kind in ("linear", "conv", "recurrent") and "out" in layer.detail
    ][:-1]
    kinds = [layer.kind for layer in shown.layers]
    if shown.has_attention and "attention" not in kinds:
        kinds.append("attention")
    return NetworkShape(
        parameters=shown.parameters,
        layer_kinds=tuple(kinds),
        activations=tuple(shown.activations),
        output_activation=shown.output_activation,
        before_output=shown.before_output,
        outputs=shown.outputs,
        dropout=shown.dropout_p,
        linear_stack=shown.linear_stack,
        smallest_width=min(widths) if widths else None,
        usual_width=int(np.median(widths)) if widths else None,
    )


def _check_baseline(outcome: TrainingOutcome) -> None:
    """Refuse a model that cannot be trained as it is: nothing could be compared.

    Raises:
        UnusableModel: it cannot.
    """
    for arm in outcome.arms:
        if arm.name == BASELINE and arm.failure is not None:
            raise UnusableModel(
                f"The model cannot be trained by the recipe: {arm.failure}."
            )
