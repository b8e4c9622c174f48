"""Encrypted addresses: whose certificate is taken, and what is said of others."""

import shutil
import subprocess

import pytest
from file_server import serving_files
from films import draw
from rtsp_server import Camera, encode_film, serving

from streamvis.config.site import load_site
from streamvis.errors import SourceError
from streamvis.sources import open_source, resolve

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl"
)
REFUSED = "cannot be reached: .* the port, which must be one of TLS, and with ca_file the certif"


def certificate(path, name="IP:127.0.0.1"):
    made = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", path.with_suffix(".key"), "-out", path, "-days", "2")
    names = ("-subj", "/CN=camera", "-addext", f"subjectAltName={name}")
    subprocess.run(["openssl", "req", *made, *files, *names], check=True, capture_output=True)
    return path


def read(text):
    (spec,) = resolve([text])
    source = open_source(spec)
    try:
        return len(list(source))
    finally:
        source.close()


@needs_openssl
def test_with_a_ca_file_no_other_certificate_is_taken(encode, tmp_path):
    encode("a.mp4", frames=20, container_options={"movflags": "faststart"})
    own, other = certificate(tmp_path / "own.pem"), certificate(tmp_path / "other.pem")
    with serving_files(tmp_path, own) as server:
        url = f"{server}/a.mp4#open_s=6"
        assert read(url) == read(f"{url}&ca_file={own}") == 20
        with pytest.raises(SourceError, match=REFUSED):
            read(f"{url}&ca_file={other}")
        assert read(f"{url}&ca_file={other}&tls_verify=0") == 20
        with pytest.raises(SourceError, match="and ca_file: there is no such file"):
            read(f"{url}&ca_file={tmp_path / 'none.pem'}")


@needs_openssl
def test_the_certificate_must_have_the_name_of_the_address(encode, tmp_path):
    encode("a.mp4", frames=20, container_options={"movflags": "faststart"})
    own = certificate(tmp_path / "own.pem", "DNS:gate.example")
    with serving_files(tmp_path, own) as server, pytest.raises(SourceError, match=REFUSED):
        read(f"{server}/a.mp4#open_s=6&ca_file={own}")


def test_files_of_certificates_start_at_the_sources_file(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("sources: [{id: a, uri: 'rtsps://h/a#ca_file=ca.pem&key_file=/k.pem'}]\n")
    (spec,) = load_site(site).sources
    assert spec.options == {
        "ca_file": str(tmp_path / "ca.pem"),
        "key_file": "/k.pem",
        "tls_verify": "1",
    }


def test_a_camera_that_does_not_send_by_udp_says_so():
    film = encode_film([draw(n) for n in range(5)])
    with (
        serving(Camera(films=[film], udp=False)) as server,
        pytest.raises(SourceError, match="does not send by udp: set transport=tcp"),
    ):
        read(f"{server.url}#transport=udp")
