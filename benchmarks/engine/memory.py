"""Peak memory of one call, measured by the operating system in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable
from typing import Any


def measured(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> tuple[float, float]:
    """Return the seconds and the extra resident MiB of the call that ``prepare(*arguments)`` returns.

    `prepare` also warms up, so that choosing kernels and filling pools is not measured.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, prepare, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise SystemExit(f"{prepare.__name__}{arguments} died, most likely for want of memory") from None
    finally:
        process.join()


def _run(sender: Any, prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> None:
    call = prepare(*arguments)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _resident()
    peak, stop = [before], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], _resident())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    kept = call()
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    del kept
    sender.send((seconds, (peak[0] - before) / 2**20))


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
