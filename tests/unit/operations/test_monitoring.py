"""Status, metrics, endpoint, alerts and journal, the network on the loopback interface only."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cycler_da.bench.operations.soak_case import CHAIN
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.operations import monitor as monitor_module
from cycler_da.operations.alerts import Alert, AlertBook
from cycler_da.operations.endpoint import endpoint, health
from cycler_da.operations.journal import journal_to
from cycler_da.operations.limits import FEWEST, soft_bounds
from cycler_da.operations.metrics import exposition
from cycler_da.operations.monitor import Monitor
from cycler_da.operations.serving import look
from cycler_da.operations.signs import give_sign_of_life
from cycler_da.operations.sinks import make_tell
from cycler_da.operations.status import experiment_status
from cycler_da.operations_blocks import OperationsBlock, SinkBlock
from cycler_da.schemes.letkf import Letkf
from cycler_da.times import iso_time, parse_time

HOUR = np.timedelta64(3600, "s")
NOW = parse_time("2020-01-01T12:00Z")
ALERT = Alert("stale", "letkf", "error", "observations", "data are 9 h old", "see whether files come in")


class Hook:
    """A webhook on the loopback interface; `code` is what it answers."""

    def __init__(self):
        self.received, self.code = [], 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hook.received.append(json.loads(content))
                self.send_response(hook.code)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/alert"


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture
def watched(full_case, open_case, hook):
    """The experiment after its first cycle, its monitor and its clock."""
    sinks = f"operations.alerts.sinks=[{{kind: webhook, url: '{hook.url}'}}]"
    experiment, clock = open_case(full_case.times[1], sinks, "operations.max_age=9h")
    look(experiment, stop=Event())
    return experiment, Monitor(lambda: experiment.agenda, silence_limit=60.0), clock


def test_the_endpoint_answers_by_the_age_of_the_data(watched, full_case, hook):
    experiment, monitor, clock = watched
    with endpoint("127.0.0.1:0", monitor.answers()) as url:
        assert get(f"{url}/readyz")[0] == 503  # no look has ended yet
        assert get(f"{url}/healthz")[0] == 200
        monitor.refresh()
        assert get(f"{url}/readyz")[0] == 200
        clock.time = full_case.times[1] + 9 * HOUR
        monitor.refresh()
        assert get(f"{url}/readyz")[0] == 200
        clock.time += np.timedelta64(1, "s")
        monitor.refresh()
        code, kind, text = get(f"{url}/readyz")
        assert code == 503 and kind.startswith("application/json")
        assert json.loads(text)["reasons"] == ["chain letkf: data are 32401 s old, limit 32400 s"]
        assert get(f"{url}/nothing")[0] == 404
        assert json.loads(get(f"{url}/status")[2]) == json.loads((experiment.folder / "status.json").read_text())
    assert [(told["kind"], told["phase"]) for told in hook.received] == [("stale", "begins")]


def test_metrics_are_read_by_the_parser_of_prometheus(watched):
    experiment, monitor, _ = watched
    monitor.refresh()
    with endpoint("127.0.0.1:0", monitor.answers()) as url:
        code, kind, text = get(f"{url}/metrics")
    assert (code, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    chain = ("chain", CHAIN)
    assert samples[("cycler_data_age_seconds", chain)] == 0
    assert samples[("cycler_cycles_complete", chain)] == 2
    assert samples[("cycler_cycles_due", chain)] == 0
    assert samples[("cycler_fallback_level", chain)] == 0
    used = json.loads((experiment.folder / "status.json").read_text())["chains"][CHAIN]["counts"]["USED"]
    assert samples[("cycler_observations", chain, ("flag", "USED"))] == used > 0
    assert samples[("cycler_max_age_seconds",)] == 9 * 3600


def test_label_values_are_escaped_as_the_format_asks(watched):
    experiment, _, _ = watched
    status = experiment_status(experiment.agenda)
    nasty = 'a"b\\c\nd'
    text = exposition(status, alerts=[{"kind": nasty, "chain": "", "severity": "error"}])
    (family,) = [one for one in text_string_to_metric_families(text) if one.name == "cycler_alert"]
    assert family.samples[0].labels["kind"] == nasty


def test_silence_for_too_long_is_bad_health():
    assert health(59.0, 60.0)[0] == 200
    assert health(61.0, 60.0)[0] == 503


def test_a_failed_stage_is_an_alert_with_stage_cause_and_action_until_the_chain_goes_on(
    watched, full_case, hook, monkeypatch
):
    experiment, monitor, clock = watched

    def fail(self, *args, **named):
        raise AnalysisFailed("the ensemble has no spread")

    clock.time = full_case.times[2]
    with monkeypatch.context() as patch:
        patch.setattr(Letkf, "analyse", fail)
        for _ in range(3):
            look(experiment, stop=Event())
            monitor.refresh()
    (told,) = hook.received  # once, though it failed three times
    assert (told["kind"], told["stage"], told["severity"]) == ("failed", "assimilate", "error")
    assert "cycle 20200101T1200Z, exit code 70: the ensemble has no spread" in told["cause"]
    assert "on_failed_analysis: ladder" in told["action"]
    look(experiment, stop=Event())
    monitor.refresh()
    assert [one["phase"] for one in hook.received] == ["begins", "ends"]
    assert not (experiment.store(CHAIN).chain_folder / "failure.json").exists()


def test_a_waiting_cycle_says_for_which_streams_and_until_when(case, open_case):
    case.deliver("buoys", case.times[1])
    experiment, clock = open_case(case.times[1])
    look(experiment, stop=Event())
    waiting = experiment_status(experiment.agenda)["chains"][CHAIN]["waiting"]
    assert waiting == {"cycle": "2020-01-01T06:00:00Z", "streams": ["drifters"], "until": "2020-01-01T07:00:00Z"}
    assert clock.now() == case.times[1]


def book(tmp_path, told, *, answers=True):
    def tell(alert, phase):
        told.append((alert.kind, phase))
        return answers

    return AlertBook(tmp_path / "alerts.json", tell, repeat=6 * HOUR)


def test_an_alert_is_told_when_it_begins_then_every_repeat_and_when_it_ends(tmp_path):
    told = []
    alerts = book(tmp_path, told)
    for hours in range(8):
        alerts.update([ALERT], NOW + hours * HOUR)
    alerts.update([], NOW + 8 * HOUR)
    assert told == [("stale", "begins"), ("stale", "lasts"), ("stale", "ends")]


def test_an_alert_that_becomes_an_error_is_told_at_once_to_who_wants_errors_alone(tmp_path, hook):
    sink = SinkBlock(kind="webhook", url=hook.url, at_least="error")
    alerts = AlertBook(tmp_path / "alerts.json", make_tell("radar", [sink]), repeat=6 * HOUR)
    warning = replace(ALERT, kind="fallback", severity="warning")
    alerts.update([warning], NOW)
    assert hook.received == []
    (lasting,) = alerts.update([replace(warning, severity="error")], NOW + HOUR)
    assert lasting["since"] == iso_time(NOW)
    alerts.update([replace(warning, severity="error")], NOW + 2 * HOUR)
    alerts.update([warning], NOW + 3 * HOUR)  # and hears the end of it, though it was a warning again by then
    alerts.update([], NOW + 4 * HOUR)
    assert [told["phase"] for told in hook.received] == ["begins", "ends"]


def test_an_alert_that_asks_for_something_else_is_told_at_once(tmp_path):
    told = []
    alerts = book(tmp_path, told)
    alerts.update([ALERT], NOW)
    alerts.update([replace(ALERT, cause="data are 10 h old")], NOW + HOUR)
    alerts.update([replace(ALERT, action="make space")], NOW + 2 * HOUR)
    assert told == [("stale", "begins"), ("stale", "begins")]


def test_a_restart_tells_nothing_twice(tmp_path):
    told = []
    book(tmp_path, told).update([ALERT], NOW)
    lasting = book(tmp_path, told).update([ALERT], NOW + HOUR)
    assert told == [("stale", "begins")]
    assert lasting[0]["since"] == "2020-01-01T12:00:00Z"


def test_what_could_not_be_told_is_tried_again(tmp_path):
    told = []
    book(tmp_path, told, answers=False).update([ALERT], NOW)
    book(tmp_path, told).update([ALERT], NOW + HOUR)
    assert told == [("stale", "begins")] * 2


def test_a_damaged_book_is_begun_anew(tmp_path):
    (tmp_path / "alerts.json").write_text('{"stale/letkf": {"told": 3}}')
    told = []
    book(tmp_path, told).update([ALERT], NOW)
    assert told == [("stale", "begins")]


def test_a_webhook_that_refuses_was_not_told_and_its_address_stays_out_of_the_log(hook, caplog, monkeypatch):
    monkeypatch.setenv("CYCLER_TEST_HOOK", f"{hook.url}?token=secret")
    tell = make_tell("soak", [SinkBlock(kind="webhook", url_env="CYCLER_TEST_HOOK")])
    hook.code = 500
    assert not tell(ALERT, "begins")
    assert "error=HTTP 500" in caplog.text and "secret" not in caplog.text
    hook.code = 204
    assert tell(ALERT, "begins")
    assert hook.received[-1]["title"] == "[cycler] soak letkf: stale begins (error)"


@pytest.mark.parametrize("answer", [b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n", b""])
def test_a_webhook_that_answers_rubbish_was_not_told_and_raises_nothing(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10.0)
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # a request may come in two parts; closed on one of them it is reset
                    pass

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        told = make_tell("soak", [SinkBlock(kind="webhook", url=url)])(ALERT, "begins")
    assert told == answer.startswith(b"HTTP")


def test_a_webhook_with_an_impossible_address_was_not_told_and_raises_nothing():
    assert not make_tell("soak", [SinkBlock(kind="webhook", url="http://a host:80x/")])(ALERT, "begins")


def test_a_bug_of_the_monitor_is_logged_and_does_not_end_the_service(watched, monkeypatch, caplog):
    _, monitor, _ = watched
    monkeypatch.setattr("cycler_da.operations.monitor.find_alerts", lambda *args, **named: 1 / 0)
    monitor.refresh()
    assert "event=monitor_failed" in caplog.text and "ZeroDivisionError" in caplog.text


def test_a_sink_that_was_told_is_not_told_again_because_another_is_dead(tmp_path):
    first, second, is_alive = [], [], False

    def healthy(alert, phase):
        first.append(phase)
        return True

    def dead(alert, phase):
        second.append(phase)
        return is_alive

    def reopened():
        return AlertBook(tmp_path / "alerts.json", healthy, dead, repeat=6 * HOUR)

    alerts = reopened()
    for minutes in range(3):
        alerts.update([ALERT], NOW + minutes * HOUR / 60)
    assert (first, second) == (["begins"], ["begins"] * 3)
    reopened().update([ALERT], NOW + HOUR)
    assert first == ["begins"]
    is_alive = True
    alerts = reopened()
    alerts.update([ALERT], NOW + 2 * HOUR)
    alerts.update([], NOW + 3 * HOUR)
    assert first == ["begins", "ends"] and second[-2:] == ["begins", "ends"]


def test_a_healthy_sink_hears_the_end_of_what_a_dead_one_never_heard_begin(tmp_path):
    told = []
    alerts = AlertBook(
        tmp_path / "alerts.json",
        lambda alert, phase: told.append(phase) or True,
        lambda alert, phase: False,
        repeat=6 * HOUR,
    )
    alerts.update([ALERT], NOW)
    alerts.update([], NOW + HOUR)
    assert told == ["begins", "ends"]


def test_what_cannot_be_watched_is_an_alert_and_not_ready_and_ends_no_other_alert(watched, full_case, hook):
    experiment, monitor, clock = watched
    clock.time = full_case.times[1] + 10 * HOUR
    monitor.refresh()
    summary = full_case.store.cycle_folder(full_case.times[1]) / "diag" / "summary.json"
    whole = summary.read_bytes()
    summary.write_bytes(b"{")
    monitor.refresh()
    code, _, text = monitor.answers()["/readyz"]()
    assert code == 503 and str(summary) in text
    assert [(told["kind"], told["phase"]) for told in hook.received] == [("stale", "begins"), ("monitor", "begins")]
    assert str(summary) in hook.received[1]["cause"]
    assert "unknown" in json.loads((experiment.folder / "status.json").read_text())
    summary.write_bytes(whole)
    monitor.refresh()
    assert [(told["kind"], told["phase"]) for told in hook.received[2:]] == [("monitor", "ends")]


def test_a_monitor_that_can_see_nothing_answers_no_and_tells_so(watched, hook):
    experiment, monitor, _ = watched
    monitor.refresh()
    (experiment.folder / "cold_starts.json").write_text("{")
    monitor.refresh()
    code, _, text = monitor.answers()["/readyz"]()
    assert code == 503 and "the state is unknown" in text and "cold_starts.json" in text
    assert [(told["kind"], told["phase"]) for told in hook.received] == [("monitor", "begins")]


def test_ages_grow_between_two_refreshes(watched, full_case):
    _, monitor, clock = watched
    monitor.refresh()
    assert monitor.answers()["/readyz"]()[0] == 200
    clock.time = full_case.times[1] + 9 * HOUR + np.timedelta64(1, "s")
    code, _, text = monitor.answers()["/readyz"]()
    assert code == 503 and "data are 32401 s old" in text
    assert 'cycler_data_age_seconds{chain="letkf"} 32401' in monitor.answers()["/metrics"]()[2]


def test_watching_is_no_sign_of_life_and_a_look_is(watched, monkeypatch):
    experiment, monitor, _ = watched
    start = monitor_module.clock.monotonic()
    monkeypatch.setattr(monitor_module.clock, "monotonic", lambda: start + 1000.0)
    monitor.follow()
    monitor.refresh()
    assert monitor.answers()["/healthz"]()[0] == 503
    give_sign_of_life(experiment.folder)
    monitor.follow()
    assert monitor.answers()["/healthz"]()[0] == 200


def test_a_command_gets_text_and_json_and_no_shell(tmp_path):
    code = "import os, sys; open(sys.argv[1], 'w').write(sys.argv[2] + sys.stdin.read() + os.environ['CYCLER_ALERT'])"
    sink = SinkBlock(kind="command", command=[sys.executable, "-c", code, str(tmp_path / "mail"), "{title}; rm x\n"])
    assert make_tell("soak", [sink])(ALERT, "begins")
    title, *lines = (tmp_path / "mail").read_text().splitlines()
    assert title == "[cycler] soak letkf: stale begins (error); rm x"
    assert "what to do: see whether files come in" in lines
    assert json.loads(lines[-1])["cause"] == ALERT.cause


def test_a_sink_for_errors_is_not_told_of_warnings(hook):
    tell = make_tell("soak", [SinkBlock(kind="webhook", url=hook.url, at_least="error")])
    assert tell(Alert("degraded", "letkf", "warning", "", "a file is missing", ""), "begins")
    assert hook.received == []


@pytest.mark.parametrize(
    "sink", [{"kind": "webhook"}, {"kind": "webhook", "url": "x", "url_env": "y"}, {"kind": "command"}]
)
def test_a_sink_without_a_target_is_refused(sink):
    with pytest.raises(ValueError, match=r"a webhook needs url|a command needs"):
        OperationsBlock.model_validate({"alerts": {"sinks": [sink]}})


def test_a_webhook_whose_variable_is_not_set_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="url_env is CYCLER_NO_SUCH_HOOK"):
        make_tell("soak", [SinkBlock(kind="webhook", url_env="CYCLER_NO_SUCH_HOOK")])


def test_soft_limits_hold_what_is_usual_and_not_what_is_not():
    draws = np.random.default_rng(1).normal(100.0, 2.0, 400)
    low, high = soft_bounds(draws)
    assert low < draws.min() and draws.max() < high
    assert not low < 80.0 and not high > 120.0
    assert soft_bounds(draws[: FEWEST - 1]) is None
    wild = np.concatenate([draws, [1e6] * 20])
    assert abs(soft_bounds(wild)[1] - high) < 1.0  # a few wild cycles do not move them
    assert soft_bounds(np.full(50, 40.0)) == (36.0, 44.0)  # of what never varies, a tenth


def test_a_number_outside_its_hard_limits_is_an_alert(full_case, open_case):
    experiment, _ = open_case(full_case.times[1], "operations.limits={used: [1000, null]}")
    look(experiment, stop=Event())
    monitor = Monitor(lambda: experiment.agenda, silence_limit=60.0)
    monitor.refresh()
    (alert,) = json.loads((experiment.folder / "status.json").read_text())["alerts"]
    assert (alert["kind"], alert["severity"]) == ("limit.used", "error")
    assert "hard limits 1000 to inf" in alert["cause"]


def test_the_journal_holds_every_line_as_json(tmp_path):
    log = logging.getLogger("cycler_da.test")
    with journal_to(tmp_path / "logs" / "serve.jsonl"):
        log.warning("event=look_failed exit_code=%d text=%s", 69, "no file at all")
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            log.exception("event=fallback")
    log.warning("not any more")
    first, second = map(json.loads, (tmp_path / "logs" / "serve.jsonl").read_text().splitlines())
    assert (first["event"], first["exit_code"], first["level"]) == ("look_failed", "69", "WARNING")
    assert first["text"] == "event=look_failed exit_code=69 text=no file at all"
    # numpy's now may be a clock tick behind the clock of the records.
    assert parse_time(first["time"][:19]) <= np.datetime64("now", "s") + np.timedelta64(1, "s")
    assert "ZeroDivisionError: by zero" in second["traceback"]


def test_an_address_that_is_taken_is_refused(hook):
    with pytest.raises(ConfigError, match="cannot listen there"), endpoint(hook.url[7:].split("/")[0], {}):
        pass
