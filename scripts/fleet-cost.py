#!/usr/bin/env python3
"""What a fleet of sensors costs a Prometheus, from a real exposition.

    scripts/fleet-cost.py http://127.0.0.1:10793/metrics     counts that sensor's series, reckons for 10, 100 and 1,000
    scripts/fleet-cost.py exposition.prom                    the same of a file, as 'halfopen replay --metrics' writes one
    scripts/fleet-cost.py --measure exposition.prom          and lets a real Prometheus scrape ten such sensors for a minute

The measurement serves the exposition ten times over with figures that grow, scrapes it each second, and writes it to a second
Prometheus by remote_write, all on loopback. Nothing but Python's standard library and, for --measure, Prometheus.
"""

import argparse
import http.server
import json
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

FLEETS = (1, 10, 100, 1000)
INTERVAL = 15
# up, scrape_duration_seconds, scrape_samples_scraped, scrape_samples_post_metric_relabeling, scrape_series_added.
OF_PROMETHEUS = 5
# Prometheus's own documentation, "Storage": on average 1 to 2 bytes a sample on disk.
DISK = 2
KEPT_DAYS = 15
# Bytes of remote_write a sample without a measurement of one's own: what --measure gave for a sensor with 50 servers.
WRITTEN = 13.3
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)$")
# What a Prometheus further up needs to show every server and every incident; docs/fleet.md has it as a match[].
FEDERATED = re.compile(r"^(halfopen_incident.*|halfopen_build_info|up)$")
RECORDED = pathlib.Path(__file__).parent.parent / "config/rules/halfopen-recording.yml"


def samples(text):
    return [match.groups() for match in map(SAMPLE.match, text.splitlines()) if match]


def fetch(source):
    if source.startswith("http"):
        with urllib.request.urlopen(source, timeout=10) as answer:
            return answer.read().decode()
    return pathlib.Path(source).read_text(encoding="utf-8")


def size(number):
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000


def reckon(text, bytes_written):
    all_samples = samples(text)
    series = len(all_samples) + OF_PROMETHEUS
    servers = sum(name == "halfopen_server_attempts_total" for name, _, _ in all_samples)
    of_servers = sum(bool(labels and 'server="' in labels) for _, labels, _ in all_samples)
    federated = sum(bool(FEDERATED.match(name)) for name, _, _ in all_samples) + 1
    recorded = re.findall(r"- record: (\S+)", RECORDED.read_text(encoding="utf-8"))
    by_server = sum(name.startswith("server:") for name in recorded)
    print(f"one sensor: {series} series ({of_servers} of them of {servers} servers), {size(len(text))} a scrape as text")
    print(f"recorded: {by_server} series a server, {len(recorded) - by_server} a sensor; the same servers behind all sensors\n")
    print(f"| sensors | series | samples/s | scraped | on disk, {KEPT_DAYS} days | federated series | remote_write |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for sensors in FLEETS:
        total = sensors * (series + len(recorded) - by_server) + by_server * servers
        rate = total / INTERVAL
        print(
            f"| {sensors:,} | {total:,} | {rate:,.0f} | {size(sensors * len(text) / INTERVAL)}/s | {size(rate * DISK * 86_400 * KEPT_DAYS)} "
            f"| {sensors * federated + by_server * servers:,} | {size(rate * bytes_written)}/s |"
        )


class Page(http.server.BaseHTTPRequestHandler):
    """The exposition, each time with counters that have grown and gauges that have moved, as those of a busy sensor do."""

    text = ""
    scrapes = 0
    lock = threading.Lock()

    def do_GET(self):
        with Page.lock:
            Page.scrapes += 1
            now = Page.scrapes
        lines = []
        for line in Page.text.splitlines():
            match = SAMPLE.match(line)
            if match and float(match[3]) != 0 and "_info" not in match[1] and "_limit" not in match[1] and "_mode" not in match[1]:
                value = float(match[3])
                counts = re.search(r"_(total|bucket|count|sum)$", match[1])
                value = value + now * max(1, value // 500) if counts else value * random.uniform(0.9, 1.1)
                line = f"{match[1]}{match[2] or ''} {value:.15g}"
            lines.append(line)
        body = ("\n".join(lines) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, query):
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


def measure(text, seconds=60, sensors=10):
    """Bytes of remote_write a sample; prints the rest."""
    Page.text = text
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    sender, receiver = free_port(), free_port()
    address = f"127.0.0.1:{pages.server_address[1]}"
    targets = "".join(
        f"      - {{targets: ['{address}'], labels: {{instance: 'sensor-{n}'}}}}\n" for n in range(sensors)
    )
    with tempfile.TemporaryDirectory(prefix="halfopen-fleet-") as folder:
        home = pathlib.Path(folder)
        rules = RECORDED.parent.resolve()
        (home / "sender.yml").write_text(
            f"global: {{scrape_interval: 1s, evaluation_interval: 15s}}\nrule_files: ['{rules}/*.yml']\n"
            f"remote_write:\n  - url: http://127.0.0.1:{receiver}/api/v1/write\n"
            f"scrape_configs:\n  - job_name: halfopen\n    static_configs:\n{targets}"
            f"  - job_name: prometheus\n    static_configs:\n      - {{targets: ['127.0.0.1:{sender}']}}\n",
            encoding="utf-8",
        )
        (home / "receiver.yml").write_text("global: {}\n", encoding="utf-8")
        running = []
        try:
            for name, port, more in (("receiver", receiver, ["--web.enable-remote-write-receiver"]), ("sender", sender, [])):
                running.append(
                    subprocess.Popen(
                        ["prometheus", f"--config.file={home}/{name}.yml", f"--storage.tsdb.path={home}/{name}", f"--web.listen-address=127.0.0.1:{port}", *more],
                        stdout=subprocess.DEVNULL,
                        stderr=(home / f"{name}.log").open("w"),
                    )
                )
            time.sleep(seconds)
            query = lambda expr: ask(sender, expr)
            ours = query('count({job="halfopen"})')
            recorded = query('count({__name__=~".+:.+"})')
            written = query("sum(prometheus_remote_storage_bytes_total)")
            sent = query("sum(prometheus_remote_storage_samples_total)")
            scrape = query('avg(scrape_duration_seconds{job="halfopen"})')
            memory = query('process_resident_memory_bytes{job="prometheus"}')
            rules_took = query("sum(prometheus_rule_group_last_duration_seconds)")
        finally:
            # The sender first: it would wait a minute for a receiver that is gone.
            for one in reversed(running):
                one.terminate()
                one.wait()
            pages.shutdown()
    if not sent:
        sys.exit("fleet-cost: nothing was written by remote_write; is 'prometheus' 2.x or later installed?")
    print(
        f"measured, {sensors} sensors, {seconds} s of scrapes each second: {ours:.0f} series of sensors, {recorded:.0f} recorded, "
        f"{written / sent:.1f} bytes of remote_write a sample, {size(memory)} resident in Prometheus, "
        f"all rules together {rules_took * 1000:.0f} ms, a scrape {scrape * 1000:.0f} ms\n"
    )
    return written / sent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="address of a sensor's metrics, or a file of them")
    parser.add_argument("--measure", action="store_true", help="scrape ten of them with a real Prometheus")
    arguments = parser.parse_args()
    try:
        text = fetch(arguments.source)
    except OSError as why:
        sys.exit(f"fleet-cost: {arguments.source}: {why}")
    reckon(text, measure(text) if arguments.measure else WRITTEN)


if __name__ == "__main__":
    main()
