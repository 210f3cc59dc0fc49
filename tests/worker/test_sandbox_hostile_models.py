"""Uploaded TorchScript that is hostile gains nothing and always ends."""

import contextlib
import io
import time
from pathlib import Path

import pytest
import torch

from service.contract.errors import Crashed
from tests.worker.templates import ready
from worker import sandbox
from worker.sandbox import Child, ChildCrashed, ChildDied, ChildTimedOut

pytestmark = [
    pytest.mark.end_to_end,
    # Deprecated, yet what callers upload.
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
CODE = (Path(__file__).parent / "inmates",)
MIB = 1 << 20


class Reader(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        read = torch.from_file(self.path, shared=False, size=6, dtype=torch.uint8)
        return read.float() + x[0, 0]


class Writer(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return x


class WriterAtLoad(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self):
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.zeros(2), self.path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class HangsAtLoad(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    @torch.jit.export
    def __getstate__(self):
        return (self.count, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]):
        self.count = state[0]
        self.training = state[1]
        while self.count >= 0:
            self.count = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Hangs(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while float(x.sum()) >= 0:
            x = x * 0
        return x


class Crashes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_strided(x, [1 << 20], [1 << 30], 1 << 40)


class Grows(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        while len(kept) < 1_000_000:
            kept.append(torch.ones(1 << 21))
        return torch.cat(kept)


class Huge(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1 << 42) + x[0, 0]


class Prints(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        text = "all work and no play makes jack a dull boy"
        for _ in range(8):
            text = text + text
        while float(x.sum()) >= 0:
            print(text)  # noqa: T201
            x = x * 0
        return x


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """What children are forked from."""
    kind = sandbox._Kind("cpu", sandbox.usable_cores(), "inmate_sessions:Torch", CODE)
    sandbox._TEMPLATES.prepare(kind, tmp_path_factory.mktemp("scratch"))
    ready(sandbox._TEMPLATES.of(kind))
    yield
    sandbox.close_templates()


@pytest.fixture(params=["started", "forked"])
def child(tmp_path, request):
    if request.param == "forked":
        request.getfixturevalue("template")
    with Child.start(
        device="cpu",
        scratch=tmp_path / "scratch",
        memory_bytes=800 * MIB,
        scratch_bytes=20 * MIB,
        session="inmate_sessions:Torch",
        code=CODE,
        keep_template=False,
    ) as started:
        yield started


def _run_here(module):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    buffer.seek(0)
    torch.jit.load(buffer)(torch.zeros(2, 2))


def _run(child, module, tmp_path, seconds=20.0):
    model = tmp_path / "model.pt"
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    model.write_bytes(buffer.getvalue())
    with model.open("rb") as file:
        return child.call(
            "run_model", {"rows": 3}, files={"model": file.fileno()}, seconds=seconds
        )


def test_an_honest_model_runs_and_trains(child, tmp_path):
    assert _run(child, torch.nn.Linear(2, 2), tmp_path)
    assert child.call("train", {}, seconds=60) > 0


def test_a_model_cannot_read_a_file(child, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    assert torch.jit.script(Reader(str(secret)))(torch.zeros(1, 1)).tolist() == list(
        b"secret"
    )

    with pytest.raises(ChildCrashed, match="unable to open file"):
        _run(child, Reader(str(secret)), tmp_path)


@pytest.mark.parametrize("kind", [Writer, WriterAtLoad])
def test_a_model_cannot_write_a_file(child, tmp_path, kind):
    victim = tmp_path / "victim"
    _run_here(kind(str(victim)))
    assert victim.stat().st_size > 100  # so it is hostile indeed
    victim.write_bytes(b"precious")
    other = tmp_path / "other"

    # TorchScript does not say that it could not write.
    for path in (victim, other):
        with contextlib.suppress(ChildCrashed):
            _run(child, kind(str(path)), tmp_path)

    assert victim.read_bytes() == b"precious"
    assert not other.exists()


@pytest.mark.parametrize("kind", [Hangs, HangsAtLoad, Prints])
def test_a_model_that_never_ends_is_ended(child, tmp_path, kind):
    child.call("echo", {}, seconds=60)
    begin = time.monotonic()

    with pytest.raises(ChildTimedOut):
        _run(child, kind(), tmp_path, seconds=2)

    assert time.monotonic() - begin < 10


def test_a_model_that_crashes_takes_only_its_child_along(child, tmp_path):
    with pytest.raises((ChildDied, ChildCrashed)):
        _run(child, Crashes(), tmp_path)


def test_a_model_that_grows_is_ended(child, tmp_path):
    # Which of the two limits it meets first depends on how busy the machine is.
    with pytest.raises((ChildDied, Crashed), match="memory"):
        _run(child, Grows(), tmp_path)


def test_a_huge_output_is_a_problem_in_words(child, tmp_path):
    with pytest.raises(Crashed, match="memory"):
        _run(child, Huge(), tmp_path)
