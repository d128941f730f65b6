"""How the demo learns the latency while the cloud serves."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from simulator.demo.cloud import Cloud, CloudOptions
from simulator.demo.errors import DemoError


@contextmanager
def cloud_that_answers(folder, status, body):
    """The demo's view of a cloud whose HTTP side says this; the paths asked for."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, name="answer", daemon=True)
    thread.start()
    cloud = Cloud(folder, folder, CloudOptions(http_port=0, fleet=None, areas=None, tiles=False))
    cloud.http_url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield cloud, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "median_ms"),
    [
        (b'{"latency_ms": {"p50": 18.5, "p95": 20, "p99": 30, "count": 9}}', 18.5),
        (b'{"latency_ms": {"p50": null, "p95": null, "p99": null, "count": 0}}', None),
    ],
)
def test_the_median_is_asked_of_the_serving_cloud_past_any_proxy(
    tmp_path, monkeypatch, body, median_ms
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with cloud_that_answers(tmp_path, 200, body) as (cloud, asked):
        assert cloud.median_latency_ms() == median_ms
    assert asked == ["/api/figures"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b"{}"), (200, b"no JSON"), (200, b"[]"), (200, b'{"latency_ms": null}')],
)
def test_any_other_answer_is_an_error_with_the_log_as_hint(tmp_path, status, body):
    with (
        cloud_that_answers(tmp_path, status, body) as (cloud, _),
        pytest.raises(DemoError) as caught,
    ):
        cloud.median_latency_ms()
    assert "cloud.log" in caught.value.hint


def test_a_cloud_that_is_gone_is_an_error_too(tmp_path, free_port):
    cloud = Cloud(
        tmp_path, tmp_path, CloudOptions(http_port=0, fleet=None, areas=None, tiles=False)
    )
    cloud.http_url = f"http://127.0.0.1:{free_port}/"
    with pytest.raises(DemoError, match="latency"):
        cloud.median_latency_ms()
