from __future__ import annotations

import pytest

from vidpipe.config import load_settings
from vidpipe.errors import UsageError
from vidpipe.local.parts import environment, write_files
from vidpipe.local.state import StackState


@pytest.fixture
def state(tmp_path, monkeypatch) -> StackState:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDPIPE_CONFIG", str(tmp_path / "s" / "vidpipe.toml"))
    load_settings.cache_clear()
    yield StackState(tmp_path / "s", ports={"s3": 1001, "mlflow": 1002, "airflow": 1003})
    load_settings.cache_clear()


def test_configuration_points_to_the_stack(state, tmp_path):
    write_files(state, tmp_path)
    settings = load_settings()
    assert settings.s3.endpoint_url == "http://127.0.0.1:1001"
    assert settings.s3.secret_access_key == state.s3_secret_access_key
    assert settings.mlflow.tracking_uri == "http://127.0.0.1:1002"
    assert settings.sources.uris == ("s3://videos",)


def test_configuration_keeps_what_the_user_wrote(state, tmp_path):
    (tmp_path / "vidpipe.toml").write_text(
        r"""
        deployment = "Zoë's \"\\\" \t\u007f 🎬"
        [extract]
        fps = 5
        max_failed_share = 0.5
        [s3]
        endpoint_url = "http://elsewhere"
        [notify]
        email_to = ["a@example.org", "b@example.org"]
        """
    )
    write_files(state, tmp_path)
    settings = load_settings()
    assert settings.deployment == 'Zoë\'s "\\" \t\x7f 🎬'
    assert (settings.extract.fps, settings.extract.max_failed_share) == (5.0, 0.5)
    assert settings.notify.email_to == ("a@example.org", "b@example.org")
    assert settings.s3.endpoint_url == "http://127.0.0.1:1001"


def test_unreadable_configuration_is_one_clear_line(state, tmp_path):
    (tmp_path / "vidpipe.toml").write_text("fps = = 2")
    with pytest.raises(UsageError, match="vidpipe.toml cannot be read"):
        write_files(state, tmp_path)


def test_another_airflow_does_not_reach_in(state, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://mail")
    env = environment(state)
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in env
    assert env["AIRFLOW_CONN_SMTP_DEFAULT"] == "smtp://mail"
