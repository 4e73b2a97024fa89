"""Programs that need not import torch each: forked from one process that has imported what takes seconds.

A program ends as Python ends, with its exit status, what is written at the end and what cannot be written. It
begins later than Python does: who tests how a program begins starts one.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Done", "Forking"]

#: Reads a task a line, and answers with an exit status a line.
_SERVING = """
import gc, json, os, runpy, site, sys

# Else each program, when it ends, goes through all that was imported here, which takes longer than most of them do.
gc.collect()
gc.freeze()

for line in sys.stdin:
    task = json.loads(line)
    child = os.fork()
    if child == 0:
        if task["stdout"] == "nobody reads":
            reading, out = os.pipe()
            os.close(reading)
        else:
            out = os.open(task["stdout"], os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(os.open(task["stderr"], os.O_WRONLY | os.O_CREAT), 2)
        os.chdir(task["cwd"])
        # What was installed since then, and the folder, as where Python begins.
        for place in task["sites"]:
            site.addsitedir(place)
        sys.path.insert(0, "")
        if "code" in task:
            sys.argv = ["-c"]
            exec(compile(task["code"], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = [task["module"], *task["arguments"]]
            runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """What became of a program: its exit status, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Forking:
    """The process that programs are forked from; leave the context, and it ends.

    Args:
        python: its interpreter.
        imports: Python that imports what the programs need not.
        place: an empty folder for what they write.
        options: of ``subprocess.Popen``.
    """

    def __init__(self, python: str, imports: str, place: Path, **options) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([python, "-c", imports + _SERVING], **pipes, **options)
        self._place, self._count = place, 0

    def __enter__(self) -> Forking:
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()

    def run(self, *, cwd: Path, stdout: str | None = None, sites: tuple[str, ...] = (), **program) -> Done:
        """Run a program and wait for it.

        Args:
            cwd: where it begins.
            stdout: where its output goes beside the result: a file, or "nobody reads".
            sites: folders of packages to look through as where Python begins.
            **program: ``code=``, or ``module=`` and ``arguments=``.
        """
        self._count += 1
        out, err = (self._place / f"{name}{self._count}" for name in ("stdout", "stderr"))
        task = {"stdout": stdout or str(out), "stderr": str(err), "cwd": str(cwd), "sites": sites, **program}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return Done(status, b"" if stdout else out.read_bytes(), err.read_bytes())
