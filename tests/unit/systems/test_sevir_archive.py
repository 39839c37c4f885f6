"""The SEVIR archive: its catalogue, its splits, and events fetched by ranges from a local server that fails."""

from __future__ import annotations

import gzip
import http.server
import re
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.systems import remote_file
from cycler_da.systems.remote_file import RemoteFile
from cycler_da.systems.sevir_catalog import SPLITS, read_events, select
from cycler_da.systems.sevir_download import SUMS, download_events
from cycler_da.systems.sevir_files import read_catalog, read_event

HEADER = "id,file_name,file_index,img_type,time_utc,event_type,llcrnrlat,llcrnrlon,pct_missing"
FILE = "vil/2019/SEVIR_VIL_STORMEVENTS_2019_0101_0630.h5"


def row(name: str, index: int, time: str, kind: str = "Hail", missing: str = "0.0", sensor: str = "vil") -> str:
    return f"{name},{FILE},{index},{sensor},{time},{kind},33.1,-99.2,{missing}"


@pytest.fixture
def catalog(tmp_path) -> Path:
    path = tmp_path / "CATALOG.csv"
    rows = [
        row("S1", 0, "2018-12-31 23:55:00"),
        row("S1", 0, "2018-12-31 23:55:00", sensor="vis"),
        row("S2", 1, "2019-01-01 00:00:00", kind="Thunderstorm Wind"),
        row("R3", 2, "2019-06-01 00:00:00", kind="", missing="0.25"),
        row("R4", 3, "2019-10-01 00:00:00", kind="", missing=""),
    ]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


class Server(http.server.BaseHTTPRequestHandler):
    """Serves a folder by ranges; breaks off in the middle of the answers that `breaks` counts down."""

    folder: Path
    breaks = 0
    ranges: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = type(self).folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        if not body:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        type(self).ranges.append(self.headers["Range"])
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if type(self).breaks > 0:
            type(self).breaks -= 1
            part = part[: len(part) // 2]
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Three events as the archive stores them, served on this machine; waiting between tries is left out."""
    monkeypatch.setattr(remote_file.time, "sleep", lambda seconds: None)
    folder = tmp_path / "bucket"
    (folder / "data" / FILE).parent.mkdir(parents=True)
    codes = np.random.default_rng(0).integers(0, 255, (3, 128, 128, 49)).astype(np.uint8)
    with h5py.File(folder / "data" / FILE, "w") as file:
        file.create_dataset("vil", data=codes)  # in one piece, not chunked
        file.create_dataset("id", data=np.array([b"S1", b"S2", b"R3"]))
    Server.folder, Server.breaks, Server.ranges = folder, 0, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", codes
    server.shutdown()
    server.server_close()


def test_the_catalogue_gives_vil_rows_alone_and_whole_events_by_default(catalog):
    events = read_events(catalog)
    assert [event.id for event in events] == ["S1", "S2", "R3", "R4"]
    assert [event.missing for event in events] == [0.0, 0.0, 0.25, 1.0]
    assert [event.id for event in select(events)] == ["S1", "S2"]
    assert [event.id for event in select(events, kind="wind")] == ["S2"]


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        ("neurips", ["train", "train", "test", "test"]),
        ("earthformer", ["train", "validation", "test", "test"]),
        ("diffcast", ["train", "validation", "validation", "test"]),
    ],
)
def test_published_splits_part_at_their_dates(catalog, split, parts):
    assert [SPLITS[split].part(event.time) for event in read_events(catalog)] == parts
    assert SPLITS["neurips"].starts() == [0, 12, 24] and SPLITS["diffcast"].starts()[-1] == 20


def test_a_split_or_row_that_cannot_be_is_refused(catalog):
    with pytest.raises(ConfigError, match="valid: neurips"):
        select(read_events(catalog), split="earthfromer", part="train")
    catalog.write_text(catalog.read_text().replace("2019-01-01 00:00:00", "yesterday"))
    with pytest.raises(DataError, match="line 4"):
        read_events(catalog)


@pytest.mark.parametrize("name", ["CATALOG.csv.gz", "cut.csv.gz", "CATALOG.csv"])
def test_a_catalogue_that_cannot_be_read_is_named(tmp_path, name):
    path = tmp_path / name
    whole = gzip.compress(b"id,img_type\nS1,vil\n" * 100)
    path.write_bytes({"CATALOG.csv.gz": b"no gzip", "cut.csv.gz": whole[: len(whole) // 2]}.get(name, whole))
    for read in (read_events, lambda path: read_catalog(path, "S1")):
        with pytest.raises(DataError, match=f"{path} cannot be read.*fetch it again"):
            read(path)


def test_a_line_of_the_catalogue_without_a_place_is_named(catalog):
    catalog.write_text(catalog.read_text().replace("llcrnrlat", "latitude"))
    with pytest.raises(DataError, match="line 2: KeyError"):
        read_catalog(catalog, "S1")


def test_the_real_catalogue_has_its_known_numbers(realdata):
    events = read_events(realdata / "sevir_catalog_2019H1_subset.csv.gz")
    assert len(events) == 851 and len(select(events)) == 525


def test_an_event_comes_out_of_a_large_file_with_few_of_its_bytes(archive, catalog, tmp_path):
    address, codes = archive
    got = []
    (path,) = download_events(read_events(catalog)[1:2], tmp_path / "out", archive=address, on_bytes=got.append)
    frames, name = read_event(path, "S2")
    assert name == "S2"
    np.testing.assert_array_equal(frames, codes[1].transpose(2, 0, 1))
    assert sum(got) < codes.nbytes + 2**20  # pieces of 1 MiB around 0.8 MB of each event


def test_answers_that_break_off_are_asked_for_again_and_the_event_is_whole(archive, catalog, tmp_path):
    address, codes = archive
    Server.breaks = 2
    (path,) = download_events(read_events(catalog)[:1], tmp_path / "out", archive=address)
    np.testing.assert_array_equal(read_event(path, 0)[0], codes[0].transpose(2, 0, 1))


def test_a_second_run_fetches_only_what_is_damaged_or_absent(archive, catalog, tmp_path):
    address, codes = archive
    events, out = read_events(catalog)[:2], tmp_path / "out"
    _, second = download_events(events, out, archive=address)
    Server.ranges.clear()
    download_events(events, out, archive=address)
    assert Server.ranges == [] and len((out / SUMS).read_text().splitlines()) == 2
    second.write_bytes(second.read_bytes()[:1000])
    download_events(events, out, archive=address)
    assert Server.ranges
    np.testing.assert_array_equal(read_event(second, 0)[0], codes[1].transpose(2, 0, 1))


def test_a_catalogue_of_another_archive_and_an_absent_file_are_refused(archive, catalog, tmp_path):
    address, _ = archive
    events = read_events(catalog)
    with pytest.raises(DataError, match=r"row 3 .* is absent"):
        download_events(events[3:], tmp_path / "out", archive=address)
    with pytest.raises(MissingInput, match="404"):
        RemoteFile(f"{address}/data/nothing.h5")
    with pytest.raises(MissingInput, match="did not arrive whole"):
        Server.breaks = 100
        download_events(events[:1], tmp_path / "other", archive=address)
