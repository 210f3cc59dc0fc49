"""The report: what an audit found, in the words of the contract."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.contract.causes import Cause, Group
from service.contract.recipe import Recipe
from service.contract.request import Severity

Verdict = Literal["found", "suspected", "not_found", "inconclusive", "not_applicable"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Value):
    """An estimate with its 95 % interval; `None` where it cannot be estimated."""

    value: float | None
    low: float | None
    high: float | None


class ClassScore(_Value):
    """How one class is recognised."""

    name: str
    n: int = Field(description="Held-out samples of the class.")
    recall: Interval
    precision: Interval


class Segment(_Value):
    """A slice of the held-out data in which the model does worse than elsewhere."""

    where: str
    n: int
    accuracy: Interval
    elsewhere: float = Field(description="Accuracy outside the slice.")


class CalibrationBin(_Value):
    """One bin of the reliability diagram."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Scores(_Value):
    """Scores of one set of weights on one split."""

    split: str
    n: int
    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    log_loss: Interval = Field(description="nats")
    ece: Interval = Field(description="Expected calibration error, fraction.")
    per_class: list[ClassScore] = []
    confusion: list[list[int]] = Field(
        default=[], description="Rows: given label; columns: predicted."
    )
    confusion_classes: list[str] = Field(
        default=[], description="Row and column names; the rest is pooled as `other`."
    )
    calibration: list[CalibrationBin] = []
    segments: list[Segment] = []


class Performance(_Value):
    """How the delivered model does."""

    train: Scores | None
    eval: Scores | None


# In a gain's method, before how many training rows it holds for, where not for all.
ON_A_PART = ", both on "


class Gain(_Value):
    """What mending one thing brings on held-out data; `method` says how it is known.

    A paired difference, but for more data: there it is extrapolated.
    """

    metric: Literal["balanced_accuracy", "accuracy", "log_loss"] = "balanced_accuracy"
    value: float
    low: float
    high: float
    seeds: int = Field(description="Pairs; 0 where only the test set was resampled.")
    method: str = Field(
        default="paired retraining",
        description="How it was measured, e.g. `paired retraining` or "
        "`delivered model, paired over samples`.",
    )


class Evidence(_Value):
    """One fact that speaks for or against a cause."""

    kind: str
    statement: str
    values: dict[str, JsonValue] = {}


class Recommendation(_Value):
    """What to do."""

    text: str
    recipe_patch: dict[str, Any] | None = Field(
        default=None, description="JSON merge patch (RFC 7396) on the recipe."
    )


class Finding(_Value):
    """The verdict on one cause."""

    cause: Cause
    group: Group
    verdict: Verdict
    severity: Severity = "info"
    confidence: float = Field(
        default=0.0, ge=0, le=1, description="Probability that the verdict is right."
    )
    summary: str
    reason: str | None = Field(
        default=None, description="Why it is `not_applicable` or `inconclusive`."
    )
    gain: Gain | None = None
    evidence: list[Evidence] = []
    recommendation: Recommendation | None = None
    experiments: list[str] = []
    check: Literal["finished", "skipped", "crashed"] = "finished"
    docs: str


class ReportArm(_Value):
    """One arm of an experiment, with what came out."""

    name: str
    changes: list[dict[str, Any]] = Field(
        description="What was changed against the subject, in order."
    )
    seeds: list[int]
    metrics: dict[str, JsonValue] = {}
    curves: dict[str, list[float | None]] = {}


class ReportExperiment(_Value):
    """One experiment: a question, its arms and what came out."""

    id: str
    kind: str
    question: str
    round: str = ""
    settings: dict[str, JsonValue] = {}
    arms: list[ReportArm] = []
    values: dict[str, JsonValue] = Field(
        default={}, description="Results of a measurement without training."
    )
    seconds: float = 0.0


class RemedyScores(_Value):
    """Scores before or after the remedy, on data no decision looked at."""

    balanced_accuracy: Interval
    accuracy: Interval


class Remedy(_Value):
    """The best combination found, retrained and judged once."""

    recipe: Recipe
    steps: list[str]
    changes: list[dict[str, Any]] = []
    before: RemedyScores | None = None
    after: RemedyScores | None = None
    gain: Gain | None = None
    judged_on: str = ""
    model: str | None = Field(default=None, description="Link to the repaired model.")


class Gate(_Value):
    """Whether the policy is met."""

    passed: bool
    reasons: list[str] = []


class Environment(_Value):
    """What produced the report."""

    engine: str
    torch: str
    device: str
    seed: int
    sandbox: str = Field(description="Level of confinement the model ran in.")


class RecipeUsed(_Value):
    """The recipe as given, and what was assumed."""

    given: Recipe
    assumed: dict[str, JsonValue]


class Report(_Value):
    """The result of an audit."""

    schema_version: Literal["1"] = "1"
    audit_id: str
    model: dict[str, JsonValue]
    dataset: dict[str, JsonValue]
    recipe: RecipeUsed
    environment: Environment
    performance: Performance
    findings: list[Finding]
    primary_cause: Cause | None
    equivalent: list[Cause] = []
    explained_by: dict[Cause, Cause] = {}
    remedy: Remedy | None = None
    experiments: list[ReportExperiment] = []
    gate: Gate
    timings: dict[str, float]
    limits: list[str] = []
