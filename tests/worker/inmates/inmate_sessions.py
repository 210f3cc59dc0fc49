"""Sessions that tests put into the confined child: an honest one and hostile ones."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from service.contract.errors import UnusableModel


class Echo:
    """Does small things that show what the child can and cannot do."""

    def __init__(
        self, *, device: str, scratch: Path, progress: Callable[[float, str], None]
    ) -> None:
        self.device = device
        self.scratch = scratch
        self.progress = progress

    def echo(self, **values: object) -> object:
        return values

    def modules(self) -> list[str]:
        return sorted(sys.modules)

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def descriptors(self) -> list[str]:
        found = []
        for number in range(256):
            try:
                os.fstat(number)
            except OSError:
                continue
            found.append(str(number))
        return found

    def read(self, first: BinaryIO, second: BinaryIO) -> list[str]:
        return [first.read().decode(), second.read().decode()]

    def count(self, steps: int) -> int:
        for step in range(steps):
            self.progress(step / steps, f"step {step}")
            time.sleep(0.15)
        return steps

    def problem(self) -> None:
        reason = "two inputs, one is expected"
        raise UnusableModel(reason)

    def crash(self) -> None:
        raise ZeroDivisionError("ours")

    def not_a_number(self) -> float:
        return float("nan")

    def leave(self, code: int) -> None:
        os._exit(code)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def hang(self) -> None:
        """Hold the interpreter's lock for ever, as native code can."""
        ctypes.PyDLL(None).sleep(1_000)

    def allocate(self) -> None:
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1) * (8 << 20)))

    def allocate_at_once(self, size: int) -> None:
        bytearray(size)

    def allocate_and_wait(self, size: int) -> None:
        kept = bytearray(os.urandom(1) * size)
        time.sleep(100)
        kept.clear()

    def print_without_end(self) -> None:
        while True:
            os.write(1, b"all work and no play " * 1_000)

    def write_file(self, name: str, size: int) -> str:
        with (self.scratch / name).open("wb") as file:
            file.write(b"x" * size)
        return name

    def fill_scratch(self) -> None:
        for number in range(1_000_000):
            (self.scratch / f"file-{number}").write_bytes(b"x" * (1 << 20))

    def start_threads(self, count: int) -> None:
        for _ in range(count):
            threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        time.sleep(100)

    def write_raw(self, text: str) -> None:
        os.write(CHANNEL_OF[0], bytes.fromhex(text))
        time.sleep(100)

    def frame(self, text: str) -> None:
        body = text.encode()
        os.write(CHANNEL_OF[0], len(body).to_bytes(4, "big") + body)
        time.sleep(100)

    def flood(self) -> None:
        body = b'{"kind":"progress","fraction":0.5,"detail":"x"}'
        frame = len(body).to_bytes(4, "big") + body
        while True:
            os.write(CHANNEL_OF[0], frame * 100)


CHANNEL_OF: list[int] = []


class Hostile(Echo):
    """Knows the channel's descriptor and writes to it behind the program's back."""

    def __init__(
        self, *, device: str, scratch: Path, progress: Callable[[float, str], None]
    ) -> None:
        super().__init__(device=device, scratch=scratch, progress=progress)
        import stat  # noqa: PLC0415

        for number in range(3, 256):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    CHANNEL_OF.append(number)
            except OSError:
                continue


class Torch(Echo):
    """Runs uploaded TorchScript, as the engine does, and says what it gave."""

    def __init__(
        self, *, device: str, scratch: Path, progress: Callable[[float, str], None]
    ) -> None:
        super().__init__(device=device, scratch=scratch, progress=progress)
        import torch  # noqa: PLC0415

        self.torch = torch

    def run_model(self, model: BinaryIO, rows: int) -> list[float]:
        loaded = self.torch.jit.load(model, map_location="cpu")
        out = loaded(self.torch.zeros(rows, 2))
        return [float(value) for value in out.flatten()[:10]]

    def train(self) -> float:
        torch = self.torch
        network = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2)
        )
        optimizer = torch.optim.AdamW(network.parameters())
        for _ in range(3):
            loss = network(torch.ones(16, 4)).square().mean()
            loss.backward()
            optimizer.step()
        return float(loss)


class Broken:
    """Cannot even be made."""

    def __init__(self, **_: object) -> None:
        reason = "no session"
        raise RuntimeError(reason)
