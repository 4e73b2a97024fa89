"""What comes out of a command: JSON alone, into closed pipes, full disks and any encoding, with its exit code."""

import contextlib
import functools
import json
import os
import subprocess
import sys

import pytest
from command_line import EXPLAIN, FIT
from forking import Forking

import xlens
from xlens import cli
from xlens.cli import commands, output
from xlens.errors import BackendNotFoundError
from xlens.registry.described import described, options_rows
from xlens.registry.loading import load_backend
from xlens.registry.status import statuses

#: A factory that talks: in Python, past Python, through another program, and when the program ends.
_TALKS = """
import atexit, os, sys, subprocess
import my_models
print("imported")

def net():
    print("made")
    sys.__stdout__.write("made past the name\\n")
    os.write(1, b"made past Python\\n")
    subprocess.run(["echo", "made by another program"])
    atexit.register(print, "the end")
    return my_models.net()

def ends():
    sys.exit(1)
"""


def run(*arguments, env=None, **options):
    """Run the command as a program of its own; an argument that is no text is a stream."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [sys.executable, "-m", "xlens.cli", *arguments], env={**os.environ, **(env or {})}, check=False, **settings
    )


@pytest.fixture(scope="module")
def forking(tmp_path_factory):
    """A process that programs are forked from, for which every backend was imported once."""
    imports = "import xlens.cli.commands\nfrom xlens.registry.status import statuses\nstatuses()\n"
    place = tmp_path_factory.mktemp("forking")
    with Forking(sys.executable, imports, place, env={**os.environ, "OMP_NUM_THREADS": "1"}) as forking:
        yield functools.partial(forking.run, module="xlens.cli")


def test_json_is_alone_on_standard_output_whatever_a_factory_prints(tmp_path):
    import numpy as np
    import toys

    (tmp_path / "talks.py").write_text(_TALKS)
    (tmp_path / "my_models.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, 2))\n"
    )
    np.save(tmp_path / "x.npy", toys.pictures(40, seed=0)[0].numpy())
    options = [f"--option={pair}" for pair in ("steps=3", "layers=1")]
    fit = ["fit", "talks:net", "x.npy", "--backend", "ilvm", "--layer", "1", "-o", "lens", "--json", *options]
    said = run(*fit, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["backend"] == "ilvm"
    for words in (b"imported", b"made\n", b"past the name", b"past Python", b"another program", b"the end"):
        assert words in said.stderr


def test_json_within_a_program_and_standard_output_is_given_back(here, capfd):
    (here / "talks.py").write_text(_TALKS)
    given = [word.replace("my_models", "talks") for word in FIT]
    assert cli.main([*given, "data.npz", "--json"]) == 0
    print("after")
    said = capfd.readouterr()
    assert json.loads(said.out.removesuffix("after\n"))["inputs"] == 60
    assert "made past Python" in said.err
    # Without it, it is not.
    assert cli.main([*given, "data.npz"]) == 0
    assert "made past Python" in capfd.readouterr().out


def test_numbers_that_json_has_not_are_null(capsys):
    output.print_json({"a": [float("nan"), (1.5, float("-inf"))]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"a": [None, [1.5, None]]}


@pytest.mark.parametrize("arguments", [["backends"], ["backends", "--json"], ["backends", "ilvm"], ["--help"]])
def test_a_closed_pipe_ends_quietly(arguments, forking, tmp_path):
    said = forking(arguments=arguments, cwd=tmp_path, stdout="nobody reads")
    assert said.stderr == b""
    assert said.returncode == (0 if "--help" in arguments else 141)


#: Every command, with what it asks for at least.
COMMANDS = {
    "demo": [],
    "backends": [],
    "fit": ["net:of", "x.npz", "-o", "lens"],
    "explain": ["lens", "x.npy", "--model", "net:of"],
    "evaluate": ["lens", "x.npz", "--model", "net:of"],
    "audit": ["lens", "x.npz", "--model", "net:of"],
    "label": ["lens", "x.npy", "--model", "net:of"],
}


def unread():
    """Return standard output that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def closed_file():
    """Return standard output of which the system has closed the file."""
    stream = open(os.devnull, "w")  # noqa: SIM115
    os.close(stream.fileno())
    return stream


def closed_stream():
    """Return standard output that a program has closed."""
    stream = open(os.devnull, "w")  # noqa: SIM115
    stream.close()
    return stream


@pytest.mark.parametrize("broken", [unread, closed_file, closed_stream])
@pytest.mark.parametrize("early", [True, False], ids=["before", "meanwhile"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_quietly_where_nobody_reads(name, early, broken, monkeypatch, capfd):
    parser = sys.modules["xlens.cli.parser"]._Parser
    parse = parser.parse_args
    # With --json standard output is set aside before the command runs.
    json_too = early and name not in ("demo", "label")
    for options in ([], ["--json"])[: 1 + json_too]:
        streams = []

        def runs(chosen, streams=streams):
            if not early:
                streams.append(broken())
                monkeypatch.setattr(sys, "stdout", streams[0])
            print("x" * 100_000)
            if getattr(chosen, "json", False):
                output.print_json({"x": "x" * 100_000})
            return 0

        def parsed(self, *given, runs=runs):
            found = parse(self, *given)
            found.run = runs
            return found

        with monkeypatch.context() as patch:
            patch.setattr(parser, "parse_args", parsed)
            if early:
                streams.append(broken())
                patch.setattr(sys, "stdout", streams[0])
            code = cli.main([name, *COMMANDS[name], *options])
        for stream in streams:
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        monkeypatch.undo()
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        assert "xlens:" not in said.err
        assert code == 141


def test_a_program_that_was_started_without_standard_output(forking, tmp_path):
    def closing():
        os.close(1)

    for arguments in (["backends"], ["backends", "--json"]):
        said = run(*arguments, stdout=None, preexec_fn=closing)
        assert (said.returncode, said.stderr) == (0, b"")
    (tmp_path / "shuts.py").write_text("import os\nos.close(1)\ndef net(): raise ValueError('never')\n")
    for options in ([], ["--json"]):
        said = forking(arguments=["fit", "shuts:net", "x.npy", "-o", "lens", *options], cwd=tmp_path)
        assert said.returncode == 2
        assert said.stderr.count(b"\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
@pytest.mark.parametrize("arguments", [["backends"], ["backends", "--json"]])
def test_a_full_disk_is_said_in_a_line(arguments, forking, tmp_path):
    said = forking(arguments=arguments, cwd=tmp_path, stdout="/dev/full")
    assert said.returncode == 2
    assert said.stderr.startswith(b"xlens: standard output cannot be written")
    assert said.stderr.count(b"\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_of_another_encoding_gets_escapes(encoding):
    script = (
        "import sys, types; from xlens import cli; from xlens.errors import *\n"
        "def backends(chosen):\n"
        "    print('\\u2192 \\u4e2d'); raise DataError('caf\\u00e9 \\u4e2d')\n"
        # In the place of the real commands, for which torch would be imported.
        "sys.modules['xlens.cli.commands'] = types.SimpleNamespace(backends=backends)\n"
        "sys.exit(cli.main(['backends']))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert said.returncode == 2
    assert said.stdout == b"\\u2192 \\u4e2d\n"
    assert said.stderr.decode(encoding).startswith("xlens: caf")


def test_an_unforeseen_error_does_not_end_as_strict_does(here, capsys, monkeypatch):
    def broken(_):
        raise RuntimeError("never thought of")

    monkeypatch.setattr(commands, "backends", broken)
    assert cli.main(["backends"]) == 3
    assert "never thought of" in capsys.readouterr().err
    (here / "talks.py").write_text(_TALKS)
    for word in ("talks:ends", "my_models:fails"):
        assert cli.main([*FIT[:1], word, *FIT[2:], "data.npz"]) == 2
        assert f"{word}() failed" in capsys.readouterr().err
    assert EXPLAIN[0] == "explain"


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"xlens {xlens.__version__}\n"


@pytest.mark.parametrize("name", [one.name for one in statuses() if one.failure is None])
def test_the_options_of_a_backend_are_listed(name, capsys):
    assert cli.main(["backends", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backend"] == name
    backend = load_backend(name)()
    for one in found["options"]:
        default = getattr(backend, one["name"])
        assert one["default"] == (list(default) if isinstance(default, tuple) else default)
        assert one["help"]
        assert one["choices"] is None or default is None or one["default"] in one["choices"]
    assert cli.main(["backends", name]) == 0
    table = capsys.readouterr().out
    assert all(one["name"] in table for one in found["options"])


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000, "a\udcff"], ids=["deep", "long", "no UTF-8"])
def test_an_option_that_is_no_value_is_refused_in_a_line(here, capsys, value):
    assert cli.main([*FIT, "data.npz", "--option", f"strength={value}"]) == 2
    said = capsys.readouterr().err
    assert "strength must be a number >= 0" in said
    assert said.count("\n") == 1


def test_options_say_what_they_may_be(capsys):
    steps = next(one for one in described(load_backend("ilvm")) if one["name"] == "steps")
    assert (steps["type"], steps["ge"], steps["choices"]) == ("int", 1, None)
    assert options_rows([steps])[1][2] == "int >= 1"
    flow = next(one for one in described(load_backend("ilvm")) if one["name"] == "flow")
    assert flow["choices"] == ["coupling", "spline", "planar", "linear", "amortised"]
    assert cli.main(["backends", "ilv"]) == 2
    assert "Did you mean 'ilvm'?" in capsys.readouterr().err
    with pytest.raises(BackendNotFoundError):
        load_backend("ilv")


@pytest.mark.parametrize("line", ["xlens backends inf", "xlens fit a:b data --backend inf"])
def test_a_shell_completes_names_of_backends(line, tmp_path):
    said = tmp_path / "said"
    env = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(said), "COMP_LINE": line}
    run(env={**os.environ, **env, "COMP_POINT": str(len(line))})
    assert said.read_text().strip() == "infill"


def test_a_table_is_as_wide_as_its_terminal(capsys, monkeypatch):
    rows = [("name", "what it is"), ("long", " ".join(["word"] * 60)), ("odd[red]", "\x1b[2J")]
    output.print_table(rows)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["name", "long", "odd[red]"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    output.print_table(rows)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[1:])) <= 40
    assert shown.count("word") == 60
    assert "\x1b[2J" not in shown
