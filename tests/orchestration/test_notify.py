"""Who is told what: against servers of our own that take the messages."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_runs import PretendStages, run_dag
from tests.servers import serve_webhook
from vidpipe.config import load_settings


class Inbox:
    """Messages that arrived, and where."""

    def __init__(self, posts: list[tuple[str, dict[str, Any]]]) -> None:
        self.posts = posts
        self.mails: list[bytes] = []


@pytest.fixture
def web() -> Iterator[tuple[str, list]]:
    """Takes what goes to the webhook and to Slack."""
    with serve_webhook() as running:
        yield running


@pytest.fixture
def inbox(airflow_home: Path, stages, web, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """A web server (webhook, Slack) and a mail server, and Airflow's connections to them."""
    url = web[0]
    box = Inbox(web[1])

    class Mail(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 hello")
            while line := self.rfile.readline():
                command = line[:4].upper().strip()
                if command == b"DATA":
                    self._say("354 go on")
                    box.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                self._say("221 bye" if command == b"QUIT" else "250 ok")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
    threading.Thread(target=mail.serve_forever, daemon=True).start()
    for name, connection in {
        "HTTP": {"conn_type": "http", "host": url},
        "SLACK": {
            "conn_type": "slack",
            "password": "xoxb-0",
            "extra": {"base_url": f"{url}/slack/"},
        },
        "SMTP": {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": mail.server_address[1],
            "extra": {
                "disable_ssl": True,
                "disable_tls": True,
                "from_email": "vidpipe@example.org",
            },
        },
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}_DEFAULT", json.dumps(connection))
    yield box
    mail.shutdown()
    mail.server_close()
    load_settings.cache_clear()


def tell(monkeypatch: pytest.MonkeyPatch, **notify: str) -> None:
    for name, value in notify.items():
        monkeypatch.setenv(f"VIDPIPE_NOTIFY_{name.upper()}", value)
    load_settings.cache_clear()


def test_blown_budget_is_told_to_all(
    airflow_home: Path, stages: PretendStages, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
):
    tell(monkeypatch, webhook_path="hook", slack_channel="#video", email_to="a@example.org,b@x.org")
    failure = "3 of 4 items failed: <b> {{ 1 + 1 }} <!channel> <https://evil.example|see>"
    stages.tell(
        discover={"shards": []},
        audit={"result": {"publication": "s3://lake/p.json"}},
        publish={"exits": [65], "say": failure},
    )

    assert run_dag(airflow_home, "ingest").state == "failed"

    (slack, message), (hook, posted) = inbox.posts
    assert hook == "/hook"
    assert posted["dag"] == "ingest"
    assert posted["message"] == f"ingest failed: publish ended with 65: {failure}"
    assert "/dags/ingest/runs/manual__" in posted["link"]
    assert slack == "/slack/chat.postMessage"
    assert message["channel"] == "#video"
    escaped = failure.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert escaped in message["text"], "a name cannot call a channel or make a link"
    (raw,) = inbox.mails
    mail = message_from_bytes(raw)
    assert mail["To"] == "a@example.org, b@x.org"
    assert mail["Subject"] == "vidpipe: ingest"
    body = next(p for p in mail.walk() if p.get_content_type() == "text/html")
    assert b"&lt;b&gt; {{ 1 + 1 }}" in body.get_payload(decode=True)


def test_one_way_that_fails_leaves_the_others(
    airflow_home: Path, stages: PretendStages, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
):
    tell(monkeypatch, webhook_path="hook", email_to="a@example.org")
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", '{"conn_type": "smtp"}')
    stages.tell(annotate={"exits": [65]})

    run_dag(airflow_home, "annotate", task="motion", file="s3://videos/labels.csv")

    assert [path for path, _ in inbox.posts] == ["/hook"]


def test_failed_run_is_told_once(
    airflow_home: Path, stages: PretendStages, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
):
    tell(monkeypatch, webhook_path="hook")
    stages.tell(
        discover={"shards": ["extract", "extract"]},
        extract={"exits": [65]},
        audit={"exits": [65], "say": "two outcomes"},
    )

    run_dag(airflow_home, "ingest")

    assert [posted["message"] for _, posted in inbox.posts] == [
        "ingest failed: audit ended with 65: two outcomes"
    ]


@pytest.mark.parametrize("promoted", [True, False])
def test_waiting_promotion_is_told(
    airflow_home: Path,
    stages: PretendStages,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    promoted: bool,
):
    tell(monkeypatch, webhook_path="hook")
    stages.tell(
        snapshot={
            "shards": ["train", "evaluate", "promote"],
            "mapped": [{"train": 0, "evaluate": 1}],
        },
        promote={"result": {"promoted": promoted, "why": "It is no better.", "model_version": "2"}},
        audit={"result": {"publication": "s3://lake/p.json"}},
    )

    assert run_dag(airflow_home, "train", task="motion").state == "success"

    assert [posted["message"] for _, posted in inbox.posts] == (
        []
        if promoted
        else [
            "A model of motion was not promoted. It is no better. "
            "To promote it: vidpipe promote motion 2"
        ]
    )
