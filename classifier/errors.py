"""Every error a user can meet. Each is one sentence: what, got, expected, what to do. Never prompt text.

ProbewatchError            exit 1
├── UsageError             exit 2   an option or argument that cannot be honoured
├── InputError             exit 3   traffic that cannot be read at all (a bad record is a rejection, not an error)
├── BundleError            exit 4   bundle or catalogue missing, corrupt or incompatible
└── OutputError            exit 5   an output folder that cannot be used
    └── BusyError          exit 5   ... since somebody else writes to it; trying again may do
"""

from __future__ import annotations


class ProbewatchError(Exception):
    """Base of what the command line turns into one sentence and an exit code."""

    exit_code = 1


class UsageError(ProbewatchError):
    exit_code = 2


class InputError(ProbewatchError):
    exit_code = 3


class BundleError(ProbewatchError):
    exit_code = 4


class OutputError(ProbewatchError):
    exit_code = 5


class BusyError(OutputError):
    pass
