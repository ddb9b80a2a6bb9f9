"""Files are found in a package, a mirror, the cache, or downloaded; and always verified."""

import hashlib
import http.server
import os
import threading

import pytest

from neuroalign.data import check_files, download, fetch_file, home, is_available, where_available, why_unavailable
from neuroalign.data.manifests import FileEntry, Manifest
from neuroalign.errors import MissingExtra, NeuroalignWarning, StoreCorrupt

CONTENT = b"some published numbers\n"
SHA = hashlib.sha256(CONTENT).hexdigest()
UNREACHABLE = "https://192.0.2.1/data.txt"  # an address reserved for documentation


def manifest_of(*entries, name="toy") -> Manifest:
    return Manifest(name=name, title="t", licence="CC0", citation="c", files=tuple(FileEntry(**e) for e in entries))


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROALIGN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NEUROALIGN_MIRROR", raising=False)
    download._mirror_index.cache_clear()


@pytest.fixture
def server(tmp_path):
    """A web server on this machine; ``server.asked`` lists what was asked for."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "data.txt").write_bytes(CONTENT)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        running.asked, running.address = asked, f"http://127.0.0.1:{running.server_address[1]}/data.txt"
        yield running
        running.shutdown()


def make_mirror(folder, name="deep/data.txt", sha256=SHA, content=CONTENT, listing="deep/list.tsv", listed=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    table = folder / listing
    table.parent.mkdir(parents=True, exist_ok=True)
    listed = listed or os.path.relpath(path, table.parent)
    table.write_text(f"file\tbytes\tsha256\n{listed}\t{len(content)}\t{sha256}\n")
    return path


def test_home_is_the_variable_or_the_users_cache(tmp_path, monkeypatch):
    assert home() == tmp_path / "home"
    monkeypatch.delenv("NEUROALIGN_HOME")
    assert home().name == "neuroalign"
    assert home().is_absolute()


def test_download_once_verified_then_from_the_cache(server, capfd):
    manifest = manifest_of({"name": "sub/data.txt", "url": server.address, "sha256": SHA})
    assert where_available(manifest) == "to download"
    path = fetch_file(manifest, "sub/data.txt")
    assert path == home() / "data" / "toy" / "sub" / "data.txt"
    assert path.read_bytes() == CONTENT
    assert fetch_file(manifest, "sub/data.txt") == path
    assert len(server.asked) == 1
    assert where_available(manifest) == "cache"
    assert [p.name for p in path.parent.iterdir()] == ["data.txt"]


def test_wrong_hash_never_becomes_visible(server):
    manifest = manifest_of({"name": "data.txt", "url": server.address, "sha256": "0" * 64})
    with pytest.raises(StoreCorrupt, match=r"data\.txt.*does not have sha256 000.*Nothing was kept"):
        fetch_file(manifest, "data.txt")
    assert not home().exists()


def test_damage_in_the_cache_is_found(server):
    manifest = manifest_of({"name": "data.txt", "url": server.address, "sha256": SHA})
    path = fetch_file(manifest, "data.txt")
    path.write_bytes(b"damaged contents")
    with pytest.raises(StoreCorrupt, match=r"expected.*Delete the file"):
        fetch_file(manifest, "data.txt")
    assert where_available(manifest) == "cache, damaged"


def test_unverified_is_said(server):
    manifest = manifest_of({"name": "data.txt", "url": server.address})
    with pytest.warns(NeuroalignWarning, match=r"'data\.txt' is unverified"):
        assert fetch_file(manifest, "data.txt").read_bytes() == CONTENT


def test_http_error_and_no_network_name_file_url_and_remedy(server):
    gone = server.address.replace("data.txt", "gone.txt")
    with pytest.raises(ConnectionError, match=r"'data\.txt' from http://127.*gone\.txt \(HTTP 404\)"):
        fetch_file(manifest_of({"name": "data.txt", "url": gone, "sha256": SHA}), "data.txt")
    manifest = manifest_of({"name": "data.txt", "url": UNREACHABLE, "sha256": SHA})
    with pytest.raises(ConnectionError, match=r"toy.*data\.txt.*192\.0\.2\.1.*NEUROALIGN_MIRROR.*not set"):
        fetch_file(manifest, "data.txt")
    assert not home().exists()


def test_time_limits_are_given_to_the_downloader(monkeypatch):
    import pooch

    given = {}

    def refuse(**keywords):
        given.update(keywords)
        raise OSError("refused")

    monkeypatch.setattr(pooch, "HTTPDownloader", refuse)
    with pytest.raises(ConnectionError):
        fetch_file(manifest_of({"name": "a", "url": UNREACHABLE, "sha256": SHA}), "a")
    assert given["timeout"] == download.TIMEOUT
    assert max(download.TIMEOUT) <= 30


def test_mirror_is_found_by_hash_and_not_copied(tmp_path, monkeypatch):
    path = make_mirror(tmp_path / "second")
    (tmp_path / "first").mkdir()
    monkeypatch.setenv("NEUROALIGN_MIRROR", os.pathsep.join([str(tmp_path / "first"), str(tmp_path / "second")]))
    manifest = manifest_of({"name": "any_name.txt", "url": UNREACHABLE, "sha256": SHA})
    assert fetch_file(manifest, "any_name.txt") == path
    assert where_available(manifest) == "mirror"
    assert not home().exists()


def test_mirror_with_other_contents_is_not_used(tmp_path, monkeypatch):
    make_mirror(tmp_path / "mirror", content=b"not what is listed")
    monkeypatch.setenv("NEUROALIGN_MIRROR", str(tmp_path / "mirror"))
    manifest = manifest_of({"name": "data.txt", "url": UNREACHABLE, "sha256": SHA})
    with pytest.warns(NeuroalignWarning, match="mirror: .*not used"), pytest.raises(ConnectionError, match="mirror"):
        fetch_file(manifest, "data.txt")


def test_a_listing_does_not_point_out_of_the_mirror(tmp_path, monkeypatch):
    outside = tmp_path / "secret.txt"
    outside.write_bytes(CONTENT)
    for listed in ("../../secret.txt", str(outside)):
        make_mirror(tmp_path / "mirror", name="deep/other.txt", content=b"x", listed=listed)
        monkeypatch.setenv("NEUROALIGN_MIRROR", str(tmp_path / "mirror"))
        download._mirror_index.cache_clear()
        manifest = manifest_of({"name": "data.txt", "url": UNREACHABLE, "sha256": SHA})
        with pytest.raises(ConnectionError):
            fetch_file(manifest, "data.txt")


def test_a_mirror_filled_after_a_failure_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROALIGN_MIRROR", str(tmp_path / "mirror"))
    manifest = manifest_of({"name": "data.txt", "url": UNREACHABLE, "sha256": SHA})
    with pytest.raises(ConnectionError, match="mirror"):
        fetch_file(manifest, "data.txt")
    path = make_mirror(tmp_path / "mirror")
    assert fetch_file(manifest, "data.txt") == path


def test_other_tables_in_a_mirror_do_no_harm(tmp_path, monkeypatch):
    path = make_mirror(tmp_path / "mirror")
    (tmp_path / "mirror" / "a.tsv").write_bytes(b"\xff\xfe\x00 not a listing\n\n1\t2\n")
    (tmp_path / "mirror" / "empty.tsv").write_text("")
    (tmp_path / "mirror" / "short.tsv").write_text("file\tsha256\nonly-a-name\n")
    monkeypatch.setenv("NEUROALIGN_MIRROR", str(tmp_path / "mirror"))
    assert fetch_file(manifest_of({"name": "d", "url": UNREACHABLE, "sha256": SHA}), "d") == path


def test_packaged_file_comes_first_and_names_the_pip_line_if_absent(server):
    numpy_file = {"name": "n.py", "package": "numpy", "path": "numpy/__init__.py"}
    with pytest.warns(NeuroalignWarning, match="unverified"):
        assert fetch_file(manifest_of({**numpy_file, "url": server.address}), "n.py").name == "__init__.py"
    assert server.asked == []
    absent = manifest_of({"name": "x", "package": "no-such-package", "path": "a/b", "pip": "no-such-package==1.0"})
    with pytest.raises(MissingExtra, match="pip install no-such-package==1.0"):
        fetch_file(absent, "x")
    assert where_available(absent) == "pip install no-such-package==1.0"
    other = manifest_of({**numpy_file, "url": server.address, "sha256": SHA})  # another version of the package
    assert fetch_file(other, "n.py").read_bytes() == CONTENT


def test_availability_is_told_without_raising(server, tmp_path):
    good = manifest_of({"name": "small", "url": server.address, "sha256": SHA, "bytes": len(CONTENT)},
                       {"name": "large", "url": server.address + "?large", "sha256": SHA, "bytes": 10 ** 9})
    assert is_available(good)
    assert server.asked == ["/data.txt"]  # the smallest one was tried
    assert where_available(good) == "cache (1), to download (1)"
    bad = manifest_of({"name": "a", "url": UNREACHABLE, "sha256": SHA}, name="far")
    assert not is_available(bad)
    assert "NEUROALIGN_MIRROR" in why_unavailable(bad)
    absent = manifest_of({"name": "w", "url": server.address, "sha256": SHA},
                         {"name": "x", "package": "no-such-package", "path": "a"}, name="packaged")
    assert "pip install no-such-package" in why_unavailable(absent)
    assert "alice_fmri" in why_unavailable("no-such-data")
    assert why_unavailable(good) == ""


def test_check_files_reads_what_lies_here_and_names_what_does_not(tmp_path, monkeypatch):
    make_mirror(tmp_path / "mirror")
    monkeypatch.setenv("NEUROALIGN_MIRROR", str(tmp_path / "mirror"))
    loose, broken, gone = {"url": UNREACHABLE}, {"url": UNREACHABLE, "sha256": "0" * 64}, {"url": UNREACHABLE}
    manifest = manifest_of({"name": "data.txt", "url": UNREACHABLE, "sha256": SHA}, {"name": "loose.txt", **loose},
                           {"name": "broken.txt", **broken}, {"name": "gone.txt", **gone})
    cache = home() / "data" / "toy"
    cache.mkdir(parents=True)
    for name in ("loose.txt", "broken.txt"):
        (cache / name).write_bytes(CONTENT)
    found = check_files(manifest)
    assert [f["state"] for f in found] == ["ok", "unverified", "damaged", "absent"]
    assert found[0]["place"].endswith("data.txt") and "sha256 is" in found[2]["place"]
    assert found[3]["place"] == "to download"
