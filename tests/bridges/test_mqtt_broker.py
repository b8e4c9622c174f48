"""`bridge mqtt` with a real broker, which is stopped, killed and cut off."""

import json
import random
import shutil
import subprocess
from contextlib import ExitStack

import pytest
from bridged import bridge, growing, wait_until
from mqtt_broker import MOSQUITTO, free_port, mosquitto, needs_mosquitto, proxy_of, subscribed
from typer.testing import CliRunner
from waiting import PATIENCE_S

from streamvis.bridges.selection import is_lifecycle
from streamvis.cli.main import app

pytestmark = needs_mosquitto
QUICK = ("--retry-first-s", "0.05", "--retry-longest-s", "0.2")


def events(subscribers, source):
    return [one for sub in subscribers for one in sub.payloads(f"sv/{source}/event")]


def lifecycle(log, source):
    return [r.payload for r in log.rows if r.source == source and is_lifecycle(r.type)]


def all_there(log, subscribers, sources="ab"):
    """Every lifecycle event has arrived; without repetitions, in the order of each source."""
    return all(
        list(dict.fromkeys(events(subscribers, one))) == lifecycle(log, one) for one in sources
    )


def test_states_events_and_the_last_will(tmp_path):
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        subscribed(broker) as sub,
    ):
        log.walk("a", 1)
        address = f"mqtt://127.0.0.1:{broker.port}"
        with bridge("mqtt", address, "--log", tmp_path) as running:
            wait_until(lambda: all_there(log, [sub], "a"), lambda: running.said)
            assert sub.payloads("sv/status") == [b"online"]
            running.kill()
        wait_until(lambda: sub.payloads("sv/status") == [b"online", b"offline"])
        with bridge("mqtt", address, "--log", tmp_path) as running:
            wait_until(lambda: len(sub.payloads("sv/status")) == 3, lambda: running.said)
            log.walk("a", 2)
            wait_until(lambda: all_there(log, [sub], "a"), lambda: running.said)
            assert running.stop() == 0, running.said
        wait_until(lambda: sub.payloads("sv/status")[-1] == b"offline")
        with subscribed(broker) as late:
            late.catch_up()
            retained = {topic: payload for topic, payload, retain in late.received if retain}
    assert retained.pop("homeassistant/device/sv_a/config")
    assert retained == {
        "sv/status": b"offline",
        "sv/a/status": b"offline",  # nothing has said that it is online
        "sv/a/people": b"0",
    }


def test_a_broker_that_is_away_or_killed_costs_delay_and_no_event(tmp_path):
    """The broker forgets its retained messages: they are published again when it is back."""
    chance, subscribers = random.Random(5), []
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        proxy_of(broker) as proxy,
        bridge("mqtt", f"mqtt://127.0.0.1:{proxy.port}", "--log", tmp_path, *QUICK) as running,
    ):
        for _ in range(4):
            with subscribed(broker) as sub:
                subscribers.append(sub)
                proxy.is_open = True
                for number in range(40):
                    log.walk(chance.choice("ab"), number)
                wait_until(lambda s=sub: len(events([s], "a")) > chance.randrange(20))
                proxy.shut()  # in the middle of a message
                sub.catch_up()  # a broker that is killed forgets what it has acknowledged
                broker.kill()
            for number in range(10):  # while it is away
                log.walk(chance.choice("ab"), number)
            broker.start()
        with subscribed(broker) as sub:
            subscribers.append(sub)
            proxy.is_open = True
            wait_until(lambda: all_there(log, subscribers), lambda: running.said)
            assert b"online" in sub.payloads("sv/status")
            assert sub.payloads("homeassistant/device/sv_a/config")
        assert "cannot deliver" in running.said
        assert "delivers again" in running.said
        assert running.stop() == 0, running.said


def test_connections_cut_at_any_byte_and_a_bridge_killed_at_any_moment(tmp_path):
    chance = random.Random(7)
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        subscribed(broker) as sub,
        proxy_of(broker) as proxy,
        ExitStack() as started,
    ):
        words = ("mqtt", f"mqtt://127.0.0.1:{proxy.port}", "--log", tmp_path, *QUICK)
        running = started.enter_context(bridge(*words))
        for number in range(150):
            log.walk(chance.choice("ab"), number)
            if number % 10 == 0:
                proxy.left = chance.randrange(1, 3000)
                before = proxy.cuts
                wait_until(lambda n=before: proxy.cuts > n or all_there(log, [sub]))
            if number % 50 == 20:
                running.kill()
                running = started.enter_context(bridge(*words))
        proxy.left = None
        wait_until(lambda: all_there(log, [sub]), lambda: running.said)
        assert running.stop() == 0, running.said
    assert proxy.cuts > 3


def test_home_assistant_that_starts_again_is_told_everything(tmp_path):
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        subscribed(broker) as sub,
        bridge("mqtt", f"mqtt://127.0.0.1:{broker.port}", "--log", tmp_path) as running,
    ):
        log.walk("a", 1)
        config = "homeassistant/device/sv_a/config"
        wait_until(lambda: all_there(log, [sub], "a"), lambda: running.said)
        before = len(sub.payloads(config))
        sub.client.publish("homeassistant/status", b"offline")
        sub.client.publish("homeassistant/status", b"online")
        wait_until(lambda: len(sub.payloads(config)) > before >= 1, lambda: running.said)
        wait_until(lambda: sub.payloads("sv/a/people")[-1] == b"0")
        assert running.stop() == 0, running.said
    assert len(events([sub], "a")) == 2


def test_a_source_is_removed_with_its_device(tmp_path):
    with mosquitto(tmp_path) as broker, growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.walk("b", 1)
        log.finish("a", "b")
        words = ("mqtt", f"mqtt://127.0.0.1:{broker.port}", "--log", tmp_path, "--until-ended")
        with bridge(*words) as running:
            assert running.wait() == 0, running.said
        with bridge(*words, "--remove", "a") as running:
            assert running.wait() == 0, running.said
        with bridge(*words) as running:
            assert running.wait() == 0, running.said
        with subscribed(broker) as sub:
            wait_until(lambda: len(sub.received) == 4)
    assert {topic for topic, _, _ in sub.received} == {
        *("sv/status", "sv/b/status", "sv/b/people", "homeassistant/device/sv_b/config")
    }


def test_user_and_password(tmp_path):
    passwords = tmp_path / "passwords"
    tool = MOSQUITTO.replace("/sbin/", "/bin/").replace("mosquitto", "mosquitto_passwd")
    subprocess.run([tool, "-c", "-b", passwords, "joe", "s3cret"], check=True)
    for name, password in {"right": "s3cret", "wrong": "s3creT"}.items():
        (tmp_path / name).write_text(password)
        (tmp_path / name).chmod(0o600)
    lines = ("allow_anonymous false", f"password_file {passwords}")

    def login(client):
        client.username_pw_set("joe", "s3cret")

    with (
        mosquitto(tmp_path, *lines) as broker,
        growing(tmp_path / "events.db") as log,
        subscribed(broker, configure=login) as sub,
    ):
        log.walk("a", 1)
        log.finish("a")
        words = ("mqtt", f"mqtt://127.0.0.1:{broker.port}", "--log", tmp_path, "--user", "joe")
        with bridge(*words, *QUICK, "--password-file", tmp_path / "wrong") as running:
            running.wait_for("refused the connection: Not authorized")
            assert running.stop() == 0, running.said
            assert "s3creT" not in running.said
        with bridge(*words, "--until-ended", "--password-file", tmp_path / "right") as running:
            assert running.wait() == 0, running.said
        assert all_there(log, [sub], "a")


@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl"
)
def test_tls_with_a_certificate_that_is_trusted_or_not(tmp_path):
    made = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "2")
    name = ("-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(["openssl", "req", *made, *files, *name], check=True, capture_output=True)
    lines = (
        "allow_anonymous true",
        f"certfile {tmp_path}/cert.pem",
        f"keyfile {tmp_path}/key.pem",
    )

    def trust(client):
        client.tls_set(tmp_path / "cert.pem")

    with (
        mosquitto(tmp_path, *lines) as broker,
        growing(tmp_path / "events.db") as log,
        subscribed(broker, configure=trust) as sub,
    ):
        log.walk("a", 1)
        log.finish("a")
        words = ("mqtt", f"mqtts://127.0.0.1:{broker.port}", "--log", tmp_path, *QUICK)
        with bridge(*words) as running:
            running.wait_for("cannot deliver")
            assert "certificate verify failed" in running.said
            assert running.stop() == 0, running.said
        assert events([sub], "a") == []
        with bridge(*words, "--ca", tmp_path / "cert.pem", "--until-ended") as running:
            assert running.wait() == 0, running.said
        assert all_there(log, [sub], "a")


def test_a_broker_that_accepts_and_says_nothing_does_not_hold_a_signal_up(tmp_path):
    import socket

    with growing(tmp_path / "events.db"), socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with bridge("mqtt", f"mqtt://127.0.0.1:{port}", "--log", tmp_path) as running:
            silent.accept()[0].close()
            accepted, _ = silent.accept()
            with accepted:
                assert running.stop() == 0, running.said


def test_metrics_say_what_is_delivered_and_what_waits(tmp_path):
    from urllib.request import urlopen

    port = free_port()
    with mosquitto(tmp_path) as broker, growing(tmp_path / "events.db") as log:
        words = ("mqtt", f"mqtt://127.0.0.1:{broker.port}", "--log", tmp_path, *QUICK)
        with bridge(*words, "--metrics", f"127.0.0.1:{port}") as running:
            log.walk("a", 1)

            def value(name):
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as page:
                    text = page.read().decode()
                label = f'streamvis_bridge_{name}{{bridge="mqtt"}} '
                return float(text.partition(f"\n{label}")[2].partition("\n")[0])

            running.wait_for("metrics are served")
            wait_until(lambda: value("delivered_total") == 5 and value("lag_events") == 0)
            assert value("connected") == 1
            broker.kill()
            log.walk("a", 2)
            wait_until(lambda: value("failed_total") > 0)
            assert value("lag_events") == 4
            assert value("lag_seconds") > 0
            assert value("connected") == 0
            broker.start()
            wait_until(lambda: value("lag_events") == 0)
            assert value("delivered_total") == 7 or value("delivered_total") > 7
            assert running.stop() == 0, running.said


def test_json_of_the_log_is_json_at_the_subscriber(tmp_path):
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        subscribed(broker) as sub,
        bridge("mqtt", f"mqtt://127.0.0.1:{broker.port}", "--log", tmp_path) as running,
    ):
        log.walk("a", 1)
        wait_until(lambda: all_there(log, [sub], "a"), lambda: running.said)
        ids = [json.loads(one)["id"] for one in events([sub], "a")]
        assert len(set(ids)) == len(ids) == 2
        assert running.stop() == 0, running.said


@pytest.mark.parametrize("words", [("--prefix", "a+b"), ("--discovery", "x/#"), ("--ca", "none")])
def test_options_that_cannot_be_meant(tmp_path, words):
    with bridge("mqtt", "mqtt://127.0.0.1:1", "--log", tmp_path, *words) as running:
        assert running.wait() == 2, running.said


@pytest.mark.parametrize("kind", ["mqtt", "onvif"])
def test_certificates_that_are_not_there_are_a_usage_error(tmp_path, kind):
    words = ["bridge", kind, "mqtts://127.0.0.1:1", "--ca", "absent", "--log", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "--ca absent cannot be read: No such file" in result.stderr
