"""A worker process seen from outside: started, asked, and ended; and what a first one finds.

The conversation is lines of JSON (``worker``). Whatever goes wrong with it, a crash, silence or
nonsense, is one exception with a code and a sentence, and the process is gone after it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Device

WORKER_COMMAND: tuple[str, ...] = (sys.executable, "-m", "roofprobe.probes.worker")
OPEN_TIMEOUT_S = 180.0
_MAX_REPLY_BYTES = 256 << 20


class WorkerGone(Exception):
    """The worker gave no (usable) answer; ``code`` and ``sentence`` say how."""

    def __init__(self, code: str, sentence: str) -> None:
        """Keep code and sentence."""
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class Worker:
    """A worker process and the conversation with it."""

    def __init__(self, command: Sequence[str], log: IO[bytes] | int) -> None:
        """Start the process; its own output goes to ``log``."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # an interrupt at the terminal is ours to handle
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._buffer = b""

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send ``request`` and return the reply; raises ``WorkerGone`` when none comes."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._gone() from None
        line = self._read_line(timeout_s)
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict) or not _is_error_in_words(reply.get("error")):
            self.kill()
            raise WorkerGone("worker-garbage", "the worker process answered with garbage")
        return reply

    def kill(self) -> None:
        """End the process at once, with whatever it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read_line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.kill()
                    raise WorkerGone(
                        "timed-out",
                        f"it did not end within {timeout_s:.0f} s and its worker was stopped",
                    )
                if not selector.select(min(left, 1.0)):
                    continue
                part = self._process.stdout.read(1 << 20)
                if part == b"":
                    raise self._gone()
                self._buffer += part or b""
                if len(self._buffer) > _MAX_REPLY_BYTES:
                    self.kill()
                    raise WorkerGone("worker-garbage", "the worker process answered with garbage")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _gone(self) -> WorkerGone:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerGone("worker-crashed", "its worker process closed its output")
        self.kill()
        how = f"ended with exit code {status}"
        if status < 0:
            try:
                how = f"was ended by {signal.Signals(-status).name}"
            except ValueError:
                how = f"was ended by signal {-status}"
        return WorkerGone("worker-crashed", f"its worker process {how}")


def discover_devices(command: Sequence[str] = WORKER_COMMAND) -> tuple[Device, ...]:
    """Return the host's devices, found in a process of its own (a driver may crash or hang).

    Raises ``RoofprobeError`` (``no-devices``) with the reason and what to do.
    """
    worker = Worker(command, subprocess.DEVNULL)
    try:
        reply = worker.ask({"op": "discover"}, OPEN_TIMEOUT_S)
    except WorkerGone as gone:
        raise RoofprobeError(
            "no-devices",
            f"the devices could not be found ({gone.sentence}); `probe doctor` says why",
        ) from gone
    finally:
        worker.kill()
    if "error" in reply:
        raise RoofprobeError(
            "no-devices",
            f"the devices could not be found ({reply['error']['sentence']}); "
            "`probe doctor` says why",
        )
    try:
        return tuple(Device.model_validate(fields) for fields in reply["devices"])
    except (KeyError, TypeError, ValueError):
        raise RoofprobeError(
            "no-devices",
            "the devices could not be found (the worker process answered with garbage); "
            "`probe doctor` says why",
        ) from None


def _is_error_in_words(error: object) -> bool:
    """Whether a reply's error is none, or one that can be told."""
    return error is None or (isinstance(error, dict) and isinstance(error.get("sentence"), str))
