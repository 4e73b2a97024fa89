"""The page: served to this machine alone, under an address that nobody can guess."""

from __future__ import annotations

import hmac
import io
import secrets
import sys
import threading
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from PIL import Image

from xlens.errors import MissingExtraError, UnsupportedError, XlensError
from xlens.plot.pixels import kind_of, ranges_of_lens, to_pixels
from xlens.teaching.page.session import Session

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["make_app", "serve"]

_HOST = "127.0.0.1"
_ASSETS = {"label.js": "text/javascript", "label.css": "text/css"}
_POLICY = "default-src 'none'; base-uri 'none'; img-src 'self' data:; " + "; ".join(
    f"{kind}-src 'self'" for kind in ("script", "style", "connect")
)
_SMALLEST = 256


def make_app(session: Session, token: str) -> Flask:
    """Return the page as a Flask application; every address begins with the token.

    Args:
        session: what is asked and answered.
        token: the secret part of the address.

    Raises:
        MissingExtraError: Flask is not installed.
        UnsupportedError: the inputs are no images.
    """
    try:
        from flask import Flask, Response, abort, request
        from werkzeug.exceptions import HTTPException
    except ImportError:
        raise MissingExtraError(
            "label: the package 'flask' is not installed", do="pip install 'xlens[label]', or: pip install flask"
        ) from None
    shape = tuple(session.pool.shape[1:])
    if kind_of(shape, "label") != "image":
        raise UnsupportedError("label: only images can be shown", given=f"inputs of shape {shape}")

    class Page(Flask):
        def log_exception(self, exc_info: Any) -> None:
            """Log nothing: Flask's own would write the address, and with it the token."""

    app = Page(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024

    @app.errorhandler(Exception)
    def failed(fault: Exception) -> Any:
        if isinstance(fault, HTTPException):
            return {"fault": f"{fault.code} {fault.name}"}, fault.code or 500
        if isinstance(fault, XlensError):
            return {"fault": _without(token, fault)}, 400
        _say_failed(token, f"{type(fault).__name__}: {fault}")
        return {"fault": f"xlens label could not answer ({type(fault).__name__}); nothing was changed"}, 500

    @app.before_request
    def only_from_here() -> None:
        # A page elsewhere may send a browser here under another name; it does not know the token either.
        if request.host.rsplit(":", 1)[0] not in (_HOST, "localhost"):
            abort(403)
        given = (request.view_args or {}).pop("token", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            abort(404)

    @app.after_request
    def headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/<token>/")
    def page() -> Response:
        return Response(_asset("label.html"), mimetype="text/html")

    @app.get("/<token>/<any('label.js', 'label.css'):name>")
    def asset(name: str) -> Response:
        return Response(_asset(name), mimetype=_ASSETS[name])

    @app.get("/<token>/image/<int:position>.png")
    def image(position: int) -> Response:
        if position >= len(session.pool):
            abort(404)
        return Response(_png(session, position), mimetype="image/png")

    @app.get("/<token>/state")
    def state() -> dict[str, Any]:
        return session.state()

    @app.post("/<token>/answer")
    def answer() -> Any:
        told = said()
        position, values, turn = (told.get(name) for name in ("position", "values", "turn"))
        if type(position) is not int or not isinstance(values, dict) or not isinstance(turn, str | None):
            return {"fault": "an answer is a position, values, and the turn of its question"}, 400
        if session.answer(position, values, turn=turn):
            try:
                threading.Thread(target=session.finish_round, daemon=False).start()
            except RuntimeError as fault:  # the system has no more threads
                session.give_up(fault)
        return session.state()

    @app.post("/<token>/back")
    def back() -> Any:
        turn = said().get("turn")
        if not isinstance(turn, str | None):
            return {"fault": "a turn is text"}, 400
        session.take_back(turn=turn)
        return session.state()

    def said() -> dict[str, Any]:
        try:
            told = request.get_json(silent=True)
        except RecursionError:
            told = None
        return told if isinstance(told, dict) else {}

    return app


def serve(session: Session, *, port: int = 0) -> tuple[Any, str]:
    """Return a server on this machine's own address, and the page's address with its token.

    The server answers once ``serve_forever()`` is called on it, until ``shutdown()``.

    Args:
        session: what is asked and answered.
        port: 0 takes a free one.

    Raises:
        MissingExtraError: Flask is not installed.
        UnsupportedError: the inputs are no images, or the port is taken.
    """
    token = secrets.token_urlsafe(24)
    app = make_app(session, token)
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            """Keep the token out of the terminal."""

    try:
        server = make_server(_HOST, port, app, threaded=True, request_handler=Quiet)
    except (OSError, SystemExit):
        raise UnsupportedError(
            f"label: port {port} cannot be used", do="choose another, or 0 for a free one"
        ) from None
    # Its own would write the address too.
    log = lambda kind, message, *rest: _say_failed(token, message % rest if rest else message)  # noqa: E731
    server.log = log  # type: ignore[method-assign]  # of this server alone, which werkzeug's factory makes
    return server, f"http://{_HOST}:{server.server_port}/{token}/"


def _say_failed(token: str, said: str) -> None:
    """Say on the terminal, in one line, what went wrong with a request."""
    print(f"xlens: label: a request failed: {ascii(_without(token, said))}", file=sys.stderr, flush=True)


def _without(token: str, said: object) -> str:
    """Return what is said, without the secret part of the address."""
    return str(said).replace(token, "...")


def _asset(name: str) -> str:
    return files("xlens.teaching.page").joinpath(name).read_text(encoding="utf-8")


def _png(session: Session, position: int) -> bytes:
    pixels = to_pixels(session.pool[position], ranges_of_lens(session.fitted))
    picture = Image.fromarray(pixels)
    factor = max(1, -(-_SMALLEST // min(picture.size)))
    buffer = io.BytesIO()
    picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
