"""Archives whose tensors are cut off."""

import io
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn

from service.contract.errors import BadRequest
from worker.engine.network import records
from worker.engine.network.records import check_records
from worker.engine.network.torchscript import load_torchscript


class Scaled(nn.Module):
    """Parameters, a buffer, a constant of the graph, and a tensor that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.register_buffer("whole", torch.arange(12.0))
        self.part = nn.Parameter(torch.ones(2, 3)[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x * torch.tensor([1.0, 2.0, 3.0, 4.0])) * self.part


def archive() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Scaled().eval(), torch.randn(2, 4))
        torch.jit.save(traced, buffer)
    return buffer.getvalue()


def rebuilt(content: bytes, *, cut: str = "", twice: str = "") -> io.BytesIO:
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(made, "w") as target,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of names that stand there twice
        for name in source.namelist():
            held = source.read(name)
            is_cut = bool(cut) and name.endswith(cut)
            target.writestr(name, held[:8] if is_cut else held)
            if twice and name.endswith(twice):
                target.writestr(name, held)
    made.seek(0)
    return made


def test_a_whole_archive_is_opened() -> None:
    file = rebuilt(archive())

    check_records(file)

    assert file.tell() == 0
    assert load_torchscript(file).facts.outputs == 3


@pytest.mark.parametrize("record", ["/data/0", "/constants/0"])
def test_a_tensor_that_is_cut_off_is_refused(record: str) -> None:
    """Else what lies behind it in memory would be read as weights."""
    with pytest.raises(BadRequest, match=f"'{record[1:]}' needs .* 8 are there"):
        load_torchscript(rebuilt(archive(), cut=record))


def test_what_was_damaged_on_the_way_is_refused() -> None:
    """Torch itself looks at no checksum: a flipped bit would be another weight."""
    content = bytearray(archive())
    one = b"\x00\x00\x80?"
    content[content.index(one)] ^= 1

    with pytest.raises(BadRequest, match="is damaged; its checksum"):
        load_torchscript(io.BytesIO(bytes(content)))


def test_an_archive_without_checksums_is_opened() -> None:
    without = rebuilt(archive()).getvalue()
    with zipfile.ZipFile(io.BytesIO(without)) as whole:
        sums = [entry.CRC.to_bytes(4, "little") for entry in whole.infolist()]
    for found in sums:
        without = without.replace(found, bytes(4))

    assert load_torchscript(io.BytesIO(without)).facts.outputs == 3


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match="a name twice"):
        load_torchscript(rebuilt(archive(), twice="/data/0"))


def test_what_a_pickle_names_is_never_called(tmp_path) -> None:
    path = tmp_path / "made"

    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(path), "w")

    assert records._needed(pickle.dumps([Harm(), Harm()], protocol=2)) == []
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all"])
def test_what_is_no_archive_is_left_to_torch(content: bytes) -> None:
    check_records(io.BytesIO(content))
    with pytest.raises(BadRequest, match="does not open as a TorchScript archive"):
        load_torchscript(io.BytesIO(content))
