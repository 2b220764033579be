"""What a bake tells the program that started it: one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class BakeError(Exception):
    """A bake cannot be done: where, why, and what would help."""

    def __init__(self, message: str, fix: str, component: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix
        self.component = component


class Events:
    """The stream of events on standard output; what libraries print goes to stderr."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def on_stdout(cls) -> Events:
        sys.stdout.flush()
        descriptor = os.dup(1)
        os.dup2(2, 1)
        return cls(descriptor)

    def emit(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}) + "\n"
        # One write per line: lines of parallel components stay whole.
        os.write(self._descriptor, line.encode())

    def component(self, component: str, stage: str, fraction: float) -> None:
        self.emit("component", component=component, stage=stage, fraction=fraction)

    def error(self, error: BakeError) -> None:
        self.emit("error", component=error.component, message=str(error), fix=error.fix)
