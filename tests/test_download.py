"""The real client talks to a server on this machine: it asks for http://localhost, through a proxy that answers."""

import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsys.data.download import FILES, RULES_URL

TOKEN = {"KAGGLE_USERNAME": "somebody", "KAGGLE_KEY": "secret"}

Answer = Callable[[str], tuple[int, bytes]]


@pytest.fixture
def client() -> None:
    pytest.importorskip("kagglehub", reason="pip install 'recsys[hm]'")


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], dict[str, str]]]:
    """Start a server that answers by file name; return the environment that leads Kaggle's client to it."""
    servers = []

    def start(answer: Answer) -> dict[str, str]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = answer(asked["fileName"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/octet-stream")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "http_proxy": address, "no_proxy": ""}

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def download(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "kaggle" not in name.lower()}
    clean = {name: value for name, value in clean.items() if not name.lower().endswith("_proxy")}
    home = {"HOME": str(folder / "home"), "KAGGLEHUB_CACHE": str(folder / "home" / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "recsys.dataset", "download", "hm", "--out", "out"],
        cwd=folder,
        env=clean | home | {"PYTHONPATH": str(Path(__file__).parents[1])} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    """Return the message: one line on stderr, nothing on stdout."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    return lines[0]


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir()) if (folder / "out").exists() else []


def test_without_credentials_it_says_where_to_make_and_put_them(tmp_path: Path, client: None) -> None:
    message = error_of(download(tmp_path, {}))
    assert "https://www.kaggle.com/settings" in message
    assert "~/.kaggle/kaggle.json" in message
    assert "KAGGLE_USERNAME and KAGGLE_KEY" in message
    assert left_over(tmp_path) == []


def test_a_broken_credentials_file_is_named(tmp_path: Path, client: None) -> None:
    (tmp_path / "home" / ".kaggle").mkdir(parents=True)
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text("{")
    assert ".kaggle/kaggle.json" in error_of(download(tmp_path, {}))


def test_without_network_it_says_so(tmp_path: Path, client: None) -> None:
    nowhere = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "http_proxy": "http://127.0.0.1:9"}
    assert "cannot be reached" in error_of(download(tmp_path, TOKEN | nowhere))
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "words"), [(403, RULES_URL), (401, "make a new token"), (404, "404"), (503, "503; try again later")]
)
def test_a_refusal_says_what_to_do(
    tmp_path: Path, client: None, serve: Callable[[Answer], dict[str, str]], status: int, words: str
) -> None:
    environment = serve(lambda name: (status, b""))
    assert words in error_of(download(tmp_path, TOKEN | environment))
    assert left_over(tmp_path) == []


def test_three_files_arrive_plain_or_zipped(
    tmp_path: Path, client: None, serve: Callable[[Answer], dict[str, str]]
) -> None:
    def answer(name: str) -> tuple[int, bytes]:
        if name != "transactions_train.csv":
            return 200, f"{name}\n".encode()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(name, f"{name}\n")
        return 200, packed.getvalue()

    result = download(tmp_path, TOKEN | serve(answer))
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert left_over(tmp_path) == sorted(FILES)
    assert {name: (tmp_path / "out" / name).read_text() for name in FILES} == {name: f"{name}\n" for name in FILES}


def test_nothing_is_written_when_the_last_file_fails(
    tmp_path: Path, client: None, serve: Callable[[Answer], dict[str, str]]
) -> None:
    environment = serve(lambda name: (200, b"a\n1\n") if name != FILES[-1] else (500, b""))
    error_of(download(tmp_path, TOKEN | environment))
    assert left_over(tmp_path) == []


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "articles.csv").write_text("mine")
    result = download(tmp_path, {})
    assert result.returncode == 2
    assert "--force" in result.stderr


def test_without_a_client_it_names_the_extra(tmp_path: Path) -> None:
    # Empty packages that fail to import stand before the installed ones, as if these were missing.
    for name in ("kagglehub", "kaggle"):
        (tmp_path / "hidden" / name).mkdir(parents=True)
        (tmp_path / "hidden" / name / "__init__.py").write_text(f"raise ModuleNotFoundError({name!r})")
    path = f"{tmp_path / 'hidden'}{os.pathsep}{Path(__file__).parents[1]}"
    assert "pip install 'recsys[hm]'" in error_of(download(tmp_path, {"PYTHONPATH": path}))


def test_importing_the_module_imports_no_client() -> None:
    code = "import sys, recsys.data.download; print(sorted({'kagglehub', 'kaggle', 'requests'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
