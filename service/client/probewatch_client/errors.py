"""What can go wrong, as exceptions. Stands first.

    ProbewatchError
    ├── BadInputError          what was given cannot be sent
    ├── NoAnswerError          the service did not answer: unreachable, too slow, connection lost
    ├── BadAnswerError         something answered that is not the service, or not of this version
    └── ProblemError           the service answered with a problem (RFC 9457)
        ├── RefusedError           400, 408, 413, 415, 421, 422: not with these contents
        ├── NotAllowedError        401, 403: not with this key
        ├── NotFoundError          404: there is no such thing
        ├── ConflictError          409: it contradicts what is there
        ├── BusyError              429, 502, 503, 504: not now; `retry_after` says when
        └── ServerFaultError       any other: its fault

No message holds a prompt or a key.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A problem document. `kind`: the last part of its type, such as `bad-event`; stable, for programs."""

    status: int
    kind: str
    title: str
    detail: str


class ProbewatchError(Exception):
    """Anything that this package raises."""


class BadInputError(ProbewatchError, ValueError):
    """What was given cannot be sent."""


class NoAnswerError(ProbewatchError):
    """The service did not answer. `sent`: the request may have reached it, and may have been done."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class BadAnswerError(ProbewatchError):
    """An answer that the service does not give."""


class ProblemError(ProbewatchError):
    """The service answered with a problem. `retry_after`: seconds after which to try again, if it said so."""

    advice = "see `detail`"

    def __init__(self, asked: str, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{asked} got {problem.status} {problem.kind}: {problem.detail} What to do: {self.advice}.")
        self.asked, self.problem, self.retry_after = asked, problem, retry_after


class RefusedError(ProblemError):
    """Not with these contents; the same again will be refused again."""

    advice = "mend the request; the same again will be refused again"


class NotAllowedError(ProblemError):
    """Not with this key."""

    advice = "give a key of the right role that is in use (`probewatch keys list` on the server)"


class NotFoundError(ProblemError):
    """There is no such thing."""

    advice = "check the id, and that the URL is the service's"


class ConflictError(ProblemError):
    """It contradicts what is there."""

    advice = "do not send the same again; look at what is there"


class BusyError(ProblemError):
    """Not now."""

    advice = "try again after a while; event ids make that harmless"


class ServerFaultError(ProblemError):
    """The service's fault."""

    advice = "tell those who run the service; its log says more"


_OF_STATUS: dict[int, type[ProblemError]] = {
    **dict.fromkeys((400, 408, 413, 415, 421, 422), RefusedError),
    **dict.fromkeys((401, 403), NotAllowedError),
    **dict.fromkeys((429, 502, 503, 504), BusyError),
    404: NotFoundError,
    409: ConflictError,
}


def error_of(asked: str, problem: Problem, retry_after: float | None = None) -> ProblemError:
    """The exception for a problem. `asked`: the request in words, such as `POST /v1/score`."""
    return _OF_STATUS.get(problem.status, ServerFaultError)(asked, problem, retry_after)
