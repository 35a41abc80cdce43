"""Downloads against a server on 127.0.0.1 that breaks off, forgets how to resume, lies and sends rubbish."""

import dataclasses
import hashlib
import http.server
import io
import threading
import zipfile

import numpy as np
import pytest
import tifffile

from npunet import datasets
from npunet.datasets import __main__ as command
from npunet.datasets import named
from npunet.errors import InputError
from npunet.files import download


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path but /missing. breaks: after how many bytes each of the next answers is cut off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.resumes, self.asked, self.busy = b"", [], True, [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, span = self.server, self.headers.get("Range")
        server.asked.append(span)
        if self.path == "/missing":
            return self.send_error(404)
        if server.busy:
            server.busy -= 1
            return self.send_error(503)
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span and server.resumes else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with Server() as running:
        running.content = np.random.default_rng(0).bytes(700_000)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _sum(content):
    return hashlib.sha256(content).hexdigest()


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


# A file --------------------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole(server, tmp_path):
    found = download.download(server.url + "/a", tmp_path / "a", _sum(server.content))
    assert (tmp_path / "a").read_bytes() == server.content and found == _sum(server.content)
    assert _names(tmp_path) == ["a"] and server.asked == [None]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.breaks = [300_000, 100_000]
    download.download(server.url + "/a", tmp_path / "a", _sum(server.content))
    assert (tmp_path / "a").read_bytes() == server.content
    assert server.asked == [None, "bytes=300000-", "bytes=400000-"]


def test_it_goes_on_in_the_next_run_too(server, tmp_path):
    server.breaks = [100_000, 50_000, 0, 0]
    with pytest.raises(InputError, match="broke off at 150000 bytes .*run it again to go on"):
        download.download(server.url + "/a", tmp_path / "a")
    assert _names(tmp_path) == ["a.part"]  # never under its own name
    server.asked.clear()
    download.download(server.url + "/a", tmp_path / "a", _sum(server.content))
    assert server.asked == ["bytes=150000-"] and (tmp_path / "a").read_bytes() == server.content


def test_a_server_that_cannot_resume_starts_again(server, tmp_path):
    server.breaks, server.resumes = [300_000], False
    download.download(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == server.content and server.asked == [None, "bytes=300000-"]


def test_everything_was_there_but_the_name(server, tmp_path):
    (tmp_path / "a.part").write_bytes(server.content)  # stopped between the last byte and the renaming
    download.download(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == server.content


def test_the_file_became_shorter_meanwhile(server, tmp_path):
    (tmp_path / "a.part").write_bytes(server.content + b"more")
    download.download(server.url + "/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == server.content


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(InputError, match=f"SHA-256 {_sum(server.content)}, expected {'0' * 64}"):
        download.download(server.url + "/a", tmp_path / "a", "0" * 64)
    assert not _names(tmp_path)


def test_a_missing_file_is_not_asked_for_twice_but_a_busy_server_is(server, tmp_path):
    with pytest.raises(InputError, match="the server answers 404"):
        download.download(server.url + "/missing", tmp_path / "a")
    assert len(server.asked) == 1 and not _names(tmp_path)
    server.busy = 2
    download.download(server.url + "/a", tmp_path / "a")
    assert len(server.asked) == 4 and (tmp_path / "a").read_bytes() == server.content


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with Server() as gone:
        url = gone.url
    with pytest.raises(InputError, match="broke off at 0 bytes"):
        download.download(url, tmp_path / "a")


# A data set ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def isbi(server, tmp_path, monkeypatch):
    """The set isbi2012, small, on that server, as its archive is laid out: one folder with the stacks inside."""
    truth = np.zeros((3, 40, 40), np.uint8)
    truth[:, 5:15, 5:15] = 255
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, stack in (("train-volume.tif", truth // 2), ("train-labels.tif", truth)):
            page = io.BytesIO()
            tifffile.imwrite(page, stack, photometric="minisblack")
            archive.writestr(f"ISBI-2012-challenge/{name}", page.getvalue())
    server.content = buffer.getvalue()
    monkeypatch.setenv("NPUNET_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    source = dataclasses.replace(named.SETS["isbi2012"], url=server.url + "/isbi.zip")
    monkeypatch.setitem(named.SETS, "isbi2012", source)
    return source


def test_a_named_set_is_fetched_once(server, isbi, tmp_path, capsys):
    data = datasets.load("isbi2012")
    assert (data.name, len(data), data.kind) == ("isbi2012", 3, "binary")
    assert "non-commercial" in capsys.readouterr().out  # its terms, before it is fetched
    assert _names(tmp_path / "data") == ["isbi2012"]  # no archive, no half-unpacked folder
    note = (tmp_path / "data" / "isbi2012" / "SOURCE.txt").read_text()
    assert isbi.url in note and _sum(server.content) in note and "cite" in note
    datasets.load("isbi2012")
    assert len(server.asked) == 1


def test_a_set_put_there_by_hand_is_found(isbi, server, tmp_path):
    zipfile.ZipFile(io.BytesIO(server.content)).extractall(tmp_path / "data")
    assert len(datasets.load("isbi2012")) == 3 and not server.asked


def test_what_arrives_is_no_archive(isbi, server, tmp_path):
    server.content = b"<html>please log in</html>"
    with pytest.raises(InputError, match="not a sound zip archive"):
        datasets.load("isbi2012")
    assert not _names(tmp_path / "data")


def test_a_damaged_archive_is_not_half_unpacked(isbi, server, tmp_path):
    content = bytearray(server.content)
    content[len(content) // 4] ^= 255  # a byte of the stored volume; the zip's CRC notices
    server.content = bytes(content)
    with pytest.raises(InputError, match="not a sound zip archive"):
        datasets.load("isbi2012")
    assert not _names(tmp_path / "data")


def test_errors_say_how_to_get_it_by_hand(isbi, server, tmp_path, monkeypatch):
    monkeypatch.setitem(named.SETS, "isbi2012", dataclasses.replace(isbi, url=server.url + "/missing"))
    with pytest.raises(
        InputError, match="answers 404.*by hand: https://imagej.net.*train-volume.tif and train-labels.tif"
    ):
        datasets.load("isbi2012")
    monkeypatch.setitem(named.SETS, "isbi2012", dataclasses.replace(isbi, url=None))
    with pytest.raises(InputError, match="no direct address; get it from https://imagej.net"):
        datasets.load("isbi2012")
    monkeypatch.setitem(named.SETS, "isbi2012", isbi)
    (tmp_path / "data" / "isbi2012").mkdir(parents=True)
    with pytest.raises(InputError, match="is there but is no complete isbi2012"):
        datasets.load("isbi2012")


def test_the_command_lists_and_fetches(isbi, tmp_path, capsys):
    command.main([])
    listed = capsys.readouterr().out
    for name, source in named.SETS.items():
        assert name in listed and source.page in listed and source.terms in listed
    assert "not in" in listed
    command.main(["isbi2012"])
    assert f"isbi2012 is in {tmp_path / 'data' / 'isbi2012'}" in capsys.readouterr().out
    with pytest.raises(InputError, match="'mnist' is not known; expected one of isbi2012, phc-u373, dic-hela, dsb2018"):
        command.main(["mnist"])


def test_every_set_says_where_it_comes_from():
    for source in named.SETS.values():
        assert (
            (source.url or source.page).startswith("https://")
            and source.page.startswith("https://")
            and source.cite
            and source.terms
        )
        assert source.sha256 is None or len(source.sha256) == 64


def test_pauses_between_tries_double(monkeypatch, tmp_path):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    monkeypatch.setattr(download, "_fetch_rest", lambda url, part: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(InputError, match="broke off at 0 bytes"):
        download.download("http://localhost/x", tmp_path / "x")
    assert pauses == [download.PAUSE * 2**n for n in range(download.ATTEMPTS - 1)]
