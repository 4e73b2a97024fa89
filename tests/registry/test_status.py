"""What can be used, and why not."""

from __future__ import annotations

from xlens import cli
from xlens.registry.status import statuses


def test_statuses_say_what_can_be_used_and_why_not(install, capsys):
    install("ridge", "raise RuntimeError('no GPU')\n")
    install("sound")
    install("twice")
    install("twice", distribution="other-twice", module="plugin_other")
    found = {one.name: one for one in statuses()}
    assert found["sound"].distributions == (("xlens-sound", "1.2"),)
    assert (found["sound"].capabilities, found["sound"].failure) == (("sample",), None)
    assert found["ridge"].capabilities == ()
    assert "RuntimeError: no GPU" in found["ridge"].failure
    assert "claimed by two distributions" in found["twice"].failure
    assert cli.main(["backends"]) == 0
    shown = capsys.readouterr().out.splitlines()
    broken = next(line for line in shown if line.split()[:2] == ["ridge", "xlens-ridge"])
    assert "  cannot be used: plugin 'ridge' of xlens-ridge 1.2 cannot be imported" in broken
    assert any("other-twice and xlens-twice" in line for line in shown)
