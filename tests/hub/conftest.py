"""A hub on this machine, that huggingface_hub talks to."""

import fake_hub
import pytest


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Serve a hub; what is downloaded lies in this test's own folder."""
    constants = pytest.importorskip("huggingface_hub.constants")
    file_download = pytest.importorskip("huggingface_hub.file_download")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with fake_hub.serving() as (served, address):
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):
            # Where a version has taken it over by name.
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        served.address = address
        yield served
