import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service import outward
from service.outward import (
    AddressRefusedError,
    Outward,
    UndeliverableError,
    is_public,
)
from service.settings import Settings

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Receiver(ThreadingHTTPServer):
    """Answers with one status and remembers what it was sent."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = status
        self.headers = headers
        self.seen: list[tuple[str, dict[str, str], bytes]] = []


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers, body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


Start = Callable[..., Receiver]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Receiver] = []

    def begin(status: int = 200, tls: Path | None = None, **headers: str) -> Receiver:
        receiver = Receiver(status, **headers)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        started.append(receiver)
        threading.Thread(target=receiver.serve_forever, args=(0.01,)).start()
        return receiver

    yield begin
    for receiver in started:
        receiver.shutdown()
        receiver.server_close()


def post(url: str, *, allowed: outward.Networks = LOOPBACK) -> int:
    return asyncio.run(Outward(allowed).post(url, {"x-test": "1"}, b"{}"))


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> list[str]:
    """Let names resolve as told; returns the names that were asked for."""
    asked: list[str] = []

    def find(host: str, port: int, *_: object, **__: object):
        asked.append(host)
        places = names.get(host.replace(".", "_"), [host])
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (p, port)) for p in places]

    monkeypatch.setattr(socket, "getaddrinfo", find)
    return asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",  # noqa: S104 - that it is refused
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2001:0:1::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fc00::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_what_is_not_public_is_known_as_such(address: str):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_what_is_public_is_known_as_such(address: str):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433", "0"]
)
def test_this_machine_is_refused_however_it_is_written(start: Start, host: str):
    receiver = start()

    with pytest.raises(AddressRefusedError):
        post(f"http://{host}:{receiver.server_port}/", allowed=())

    assert receiver.seen == []


def test_a_name_is_resolved_once_and_its_address_is_what_is_called(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    receiver = start()
    asked = resolving(monkeypatch, hooks_example=["127.0.0.1"])

    status = post(f"http://hooks.example:{receiver.server_port}/a?b=c")

    [(path, headers, body)] = receiver.seen
    assert status == 200
    assert (path, body, headers["x-test"]) == ("/a?b=c", b"{}", "1")
    assert headers["host"] == f"hooks.example:{receiver.server_port}"
    assert asked.count("hooks.example") == 1


def test_of_several_addresses_only_those_allowed_are_called(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    receiver = start()
    resolving(monkeypatch, hooks_example=["10.0.0.1", "127.0.0.9", "127.0.0.1"])

    # Nothing listens on the second; the third is the receiver.
    assert post(f"http://hooks.example:{receiver.server_port}/") == 200


def test_a_redirect_is_answered_and_not_followed(start: Start):
    target = start()
    location = f"http://127.0.0.1:{target.server_port}/"
    receiver = start(307, location=location)

    assert post(f"http://127.0.0.1:{receiver.server_port}/") == 307
    assert target.seen == []


def test_a_proxy_of_the_environment_is_not_used(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    receiver, proxy = start(), start()
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")

    post(f"http://127.0.0.1:{receiver.server_port}/")

    assert (len(receiver.seen), len(proxy.seen)) == (1, 0)


def test_a_receiver_that_answers_byte_by_byte_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(outward, "TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\n" * 4:
                    time.sleep(0.05)
                    try:
                        connection.send(bytes([byte]))
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(UndeliverableError, match=r"within 0\.5 seconds"):
            post(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


def test_a_connection_that_fails_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(UndeliverableError, match="no answer"):
        post(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example"])
def test_a_name_that_does_not_exist_says_so(host: str, monkeypatch: pytest.MonkeyPatch):
    real = socket.getaddrinfo

    def find(name: str, *arguments: object, **options: object):
        if name == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME)
        return real(name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)

    with pytest.raises(UndeliverableError, match="cannot be resolved"):
        post(f"http://{host}/")


def certificate(folder: Path, name: str) -> Path:
    """Make a key and a certificate of its own for a name, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_a_certificate_is_checked_against_the_name_though_the_address_is_called(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = certificate(tmp_path, "hooks.example")
    receiver = start(tls=file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    resolving(monkeypatch, hooks_example=["127.0.0.1"], evil_example=["127.0.0.1"])

    assert post(f"https://hooks.example:{receiver.server_port}/") == 200
    with pytest.raises(UndeliverableError, match="CERTIFICATE_VERIFY_FAILED"):
        post(f"https://evil.example:{receiver.server_port}/")


def test_networks_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MODEL_AUDIT_CALLBACK_NETWORKS", "10.0.0.0/8, ::1/128")

    networks = Settings().callback_networks

    assert networks == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert Settings(callback_networks=()).callback_networks == ()
