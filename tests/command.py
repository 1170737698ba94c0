"""One command line run in this process, and what it came to: shared by the tests of commands."""

from __future__ import annotations

import re

import pytest

from service import cli, exits


class Ran:
    """What a command line came to."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.code = exits.run_app(cli.app, [str(argument) for argument in arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def sentence(self) -> str:
        """The one line of an error, which must be all there is."""
        assert self.out == "" and re.fullmatch(r"probewatch: [^\n]+\.\n", self.err), (self.out, self.err)
        return self.err.removeprefix("probewatch: ").rstrip()
