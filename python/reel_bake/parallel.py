"""Parts are baked in forked children: what one compiled cannot influence another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from reel_bake import lifeline
from reel_bake.events import BakeError

Task = tuple[str, Callable[[], Any]]
FORK = multiprocessing.get_context("fork")


def run(tasks: Iterable[Task], jobs: int) -> dict[str, Any]:
    """Runs named tasks in children, at most `jobs` at a time; the first failure ends the others."""
    waiting, results = list(tasks), {}
    running: dict[Connection, tuple[str, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name, child, reader = _start(*waiting.pop(0))
                running[reader] = (name, child)
            for reader in wait(list(running)):
                name, child = running.pop(reader)
                results[name] = _finish(name, child, reader)
    finally:
        for _, child in running.values():
            _end(child)
    return results


def _start(name: str, task: Callable[[], Any]) -> tuple[str, BaseProcess, Connection]:
    reader, writer = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_child, args=(os.getpid(), task, writer), name=name)
    child.start()
    writer.close()
    return name, child, reader


def _child(parent: int, task: Callable[[], Any], writer: Connection) -> None:
    # A group of its own, so that the compilers that it starts can be ended with it.
    os.setpgid(0, 0)
    lifeline.die_with(parent)
    try:
        writer.send((task(), None))
    except BakeError as error:
        writer.send((None, (str(error), error.fix)))
    except BaseException as error:
        traceback.print_exc()
        fix = "see the messages above; set-up may be incomplete"
        writer.send((None, (f"{type(error).__name__}: {error}", fix)))


def _finish(name: str, child: BaseProcess, reader: Connection) -> Any:
    try:
        result, failure = reader.recv()
    except EOFError:
        child.join()
        failure = (f"its process ended with status {child.exitcode}", "is there enough memory?")
    child.join()
    if failure:
        raise BakeError(failure[0], failure[1], name)
    return result


def _end(child: BaseProcess) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        child.kill()
    child.join()
