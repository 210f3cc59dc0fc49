"""What can become of a confined child instead of an answer.

ChildFailed
├── ChildDied          it ended: by a signal, by itself, or by us for a broken limit
│   │                  or a lost folder
│   └── ChildMisbehaved    it spoke no sense
├── ChildTimedOut      it took longer than allowed
├── ChildStopped       the caller asked to stop
└── ChildCrashed       our own code in it raised an exception

None of these is `ScratchDown`: no child can work where it has no room.
"""

from service.contract.errors import Unavailable


class ChildFailed(Exception):  # noqa: N818 - says what happened
    """The child did not give an answer."""


class ChildDied(ChildFailed):
    """The child ended before it answered.

    Attributes:
        signal: the signal that ended it, None where it exited.
        exit_code: its exit status, None where a signal ended it.
        reason: the limit that it broke or what it lacked, empty where it ended by
            itself.
        printed: the end of what it printed; untrusted text.
    """

    def __init__(self, status: int, *, reason: str = "", printed: str = "") -> None:
        self.signal = -status if status < 0 else None
        self.exit_code = status if status >= 0 else None
        self.reason = reason
        self.printed = printed
        ended = f"signal {self.signal}" if self.signal else f"exit {self.exit_code}"
        super().__init__(f"the confined process ended ({reason or ended})")


class ChildMisbehaved(ChildDied):
    """The child sent what no frame of ours looks like, and was killed."""


class ChildTimedOut(ChildFailed):
    """The child took longer than it may, and was killed."""

    def __init__(self, operation: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"`{operation}` took longer than {seconds:g} s")


class ChildStopped(ChildFailed):
    """The caller asked to stop, and the child was killed."""

    def __init__(self, operation: str) -> None:
        super().__init__(f"`{operation}` was stopped")


class ChildCrashed(ChildFailed):
    """Our own code raised an exception in the child.

    Attributes:
        trace: the traceback, for the operator's log only: it may hold untrusted text.
    """

    def __init__(self, trace: str) -> None:
        self.trace = trace
        last = trace.strip().rpartition("\n")[2]
        super().__init__(f"the engine crashed: {last[:200]}")


class ScratchDown(Unavailable):
    """No child can be started, or its folder cannot be written to, for the moment."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The worker's scratch folder does not work: {reason}.")
