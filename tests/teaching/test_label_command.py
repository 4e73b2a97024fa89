"""``xlens label``, and a lens on a layer, as somebody types them."""

import numpy as np

import xlens


def test_from_the_command_line(folder, pool, model, tmp_path, monkeypatch, capsys):
    from xlens import cli
    from xlens.cli import labelling

    xlens.load(folder, model).save(tmp_path / "lens")
    (tmp_path / "labelled_model.py").write_text("net = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    import labelled_model

    monkeypatch.setattr(labelled_model, "net", lambda: model)
    np.save(tmp_path / "pool.npy", pool.numpy())
    seen = []

    class Stopped:
        def serve_forever(self):
            raise KeyboardInterrupt

        def server_close(self):
            seen.append("closed")

    def serving(session, port):
        seen.append((len(session.pool), session.state()["left"], port))
        return Stopped(), "http://127.0.0.1:1/secret/"

    monkeypatch.setattr(labelling, "serve", serving)
    given = ["label", str(tmp_path / "lens"), str(tmp_path / "pool.npy"), "--model", "labelled_model:net"]
    assert cli.main([*given, "--check", "8", "--port", "0"]) == 130
    assert seen == [(160, 8, 0), "closed"]
    assert "open http://127.0.0.1:1/secret/" in capsys.readouterr().out
    assert cli.main([*given, "--check", "1", "--per-round", "0"]) == 2
    assert "--check must be >= 4; --per-round must be >= 1" in capsys.readouterr().err


def test_a_lens_on_a_layer_from_the_command_line(pool, model, tmp_path, monkeypatch):
    from xlens import cli

    (tmp_path / "layered_model.py").write_text("net = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    import layered_model

    monkeypatch.setattr(layered_model, "net", lambda: model)
    np.save(tmp_path / "pool.npy", pool.numpy())
    lens, arrays = str(tmp_path / "lens"), str(tmp_path / "pool.npy")
    options = [f"--option={pair}" for pair in ("steps=20", "layers=1", 'attributes=["left"]', 'kinds=["binary"]')]
    given = ["layered_model:net", arrays, "--backend", "ilvm", "--layer", "1", "-o", lens]
    assert cli.main(["fit", *given, *options]) == 0
    page = str(tmp_path / "why.html")
    assert cli.main(["explain", lens, arrays, "--model", "layered_model:net", "--html", page, "--json"]) == 0
    assert (tmp_path / "why.html").stat().st_size > 10_000
