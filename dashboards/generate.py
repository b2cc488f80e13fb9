#!/usr/bin/env python3
"""Writes the dashboards: `dashboards/generate.py`, or with --check only says whether the JSON beside it is what it would write.

Nothing but Python's standard library. A panel is one line of what it asks, one or more queries, and what differs from the defaults;
places on the grid are reckoned, so that panels neither overlap nor leave holes. Edit here, never the JSON.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
FLOODS = 'kind=~"spoofed_flood|direct_flood|carpet_flood"'
# Every dashboard: tag, UID, title. The order of the links.
BOARDS = {
    "overview": "Overview",
    "server": "Server",
    "sensor": "Sensor",
    "half-open": "Half-open",
}
GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#808080"


def target(expr, legend="", **more):
    return {"datasource": DATASOURCE, "expr": " ".join(expr.split()), "legendFormat": legend, "range": True, **more}


def instant(expr, legend="", **more):
    return target(expr, legend, **{"range": False, "instant": True, **more})


def steps(*pairs):
    """Thresholds: (value, colour) pairs, the first value None."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in pairs]}


def panel(kind, title, question, targets, width, height, unit="short", **more):
    """One panel. `more` may hold: thresholds, max, options, custom, overrides, mappings, decimals, transformations, links."""
    defaults = {"unit": unit, "thresholds": more.get("thresholds", steps((None, GREEN))), "mappings": more.get("mappings", [])}
    if kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 10,
            "showPoints": "never",
            "spanNulls": False,
            "axisSoftMin": 0,
            "thresholdsStyle": {"mode": "line" if "thresholds" in more else "off"},
        }
    defaults.setdefault("custom", {}).update(more.get("custom", {}))
    for key in ("min", "max", "decimals", "noValue", "color"):
        if key in more:
            defaults[key] = more[key]
    built_in = {
        "timeseries": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "area", "textMode": "auto"},
        "bargauge": {"reduceOptions": {"calcs": ["lastNotNull"]}, "displayMode": "lcd", "orientation": "horizontal", "showUnfilled": True},
        "table": {"showHeader": True, "footer": {"show": False}},
        "state-timeline": {"mergeValues": True, "showValue": "never", "rowHeight": 0.9, "legend": {"displayMode": "list", "placement": "bottom"}},
        "heatmap": {
            "calculate": False,
            "yAxis": {"unit": unit, "axisPlacement": "left"},
            "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64},
            "cellGap": 1,
            "filterValues": {"le": 1e-9},
            "tooltip": {"mode": "single", "yHistogram": True},
            "legend": {"show": True},
        },
    }[kind]
    made = {
        "type": kind,
        "title": title,
        "description": question,
        "datasource": DATASOURCE,
        "targets": [dict(one, refId=chr(ord("A") + at)) for at, one in enumerate(targets)],
        "fieldConfig": {"defaults": defaults, "overrides": more.get("overrides", [])},
        "options": {**built_in, **more.get("options", {})},
        "gridPos": {"w": width, "h": height},
    }
    for key in ("transformations", "links", "interval"):
        if key in more:
            made[key] = more[key]
    return made


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def place(panels):
    """Left to right, top to bottom. All panels of a line have one height, and a line is 24 wide, or it is an error here."""
    x = y = line = 0
    for number, one in enumerate(panels, 1):
        at = one["gridPos"]
        if x == 0:
            line = at["h"]
        if at["h"] != line or x + at["w"] > 24:
            raise ValueError(f"'{one['title']}' does not fit into its line: x {x}, width {at['w']}, height {at['h']} beside {line}")
        at.update(x=x, y=y)
        one["id"] = number
        x += at["w"]
        if x == 24:
            x, y = 0, y + line
    if x:
        raise ValueError(f"the last line is only {x} of 24 wide")
    return panels


def variable(name, label, query, multi=True, description=""):
    made = {
        "type": "query",
        "name": name,
        "label": label,
        "description": description,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        "current": {"text": "All", "value": "$__all"} if multi else {},
    }
    if multi:
        made["allValue"] = ".*"
    return made


def annotation(name, expr, colour, title):
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "expr": expr,
        "step": "15s",
        "iconColor": colour,
        "titleFormat": title,
        "textFormat": "{{server}} (sensor {{instance}})",
        "tagKeys": "kind",
        "useValueForTime": False,
    }


def board(key, description, variables, panels, servers="", refresh="30s"):
    """One dashboard. `servers` restricts the incident annotations."""
    where = f'instance=~"$instance"{servers}'
    return {
        "uid": f"halfopen-{key}",
        "title": f"Halfopen / {BOARDS[key]}",
        "description": description,
        "tags": ["halfopen"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "utc",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": refresh,
        "fiscalYearStartMonth": 0,
        "weekStart": "monday",
        "links": [
            {
                "type": "link",
                "title": title,
                "url": f"/d/halfopen-{other}",
                "icon": "dashboard",
                "tooltip": f"Halfopen / {title}",
                "keepTime": True,
                "includeVars": True,
                "asDropdown": False,
                "targetBlank": False,
                "tags": [],
            }
            for other, title in BOARDS.items()
            if other != key
        ],
        "annotations": {
            "list": [
                {
                    "name": "Annotations & Alerts",
                    "builtIn": 1,
                    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
                    "enable": True,
                    "hide": True,
                    "iconColor": "rgba(0, 211, 255, 1)",
                    "type": "dashboard",
                },
                annotation("Incidents", f'halfopen_incident_active{{{where}, kind!="flash_crowd"}} > 0', RED, "{{kind}}"),
                annotation("Flash crowds", f'halfopen_incident_active{{{where}, kind="flash_crowd"}} > 0', BLUE, "flash crowd: many clients, no attack"),
            ]
        },
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "current": {}, "refresh": 1, "multi": False, "includeAll": False},
                *variables,
            ]
        },
        "panels": place(panels),
    }


INSTANCE = variable("instance", "Sensor", "label_values(halfopen_build_info, instance)", description="Sensors to look through.")
PER_SECOND = "cps"


def column(name, **properties):
    ids = {"unit": "unit", "width": "custom.width", "title": "displayName", "thresholds": "thresholds", "cell": "custom.cellOptions", "links": "links", "max": "max", "min": "min", "mappings": "mappings", "decimals": "decimals"}
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": ids[key], "value": value} for key, value in properties.items()]}


def coloured(name, colour):
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}


def dashed(pattern, colour=RED):
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }


TO_SERVER = [{"title": "Open this server", "url": "/d/halfopen-server?var-server=${__data.fields.server}&${__url_time_range}&${datasource:queryparam}"}]
SEVERITIES = [
    {
        "type": "value",
        "options": {
            "1": {"text": "info", "color": BLUE, "index": 0},
            "2": {"text": "warning", "color": ORANGE, "index": 1},
            "3": {"text": "critical", "color": RED, "index": 2},
        },
    }
]
OUTCOME_COLOURS = [
    coloured("completed", GREEN),
    coloured("refused", YELLOW),
    coloured("reset", BLUE),
    coloured("unanswered", ORANGE),
    coloured("abandoned", RED),
    coloured("superseded", "purple"),
    coloured("evicted", GREY),
]
STACKED = {"stacking": {"mode": "normal"}, "fillOpacity": 30}


def overview():
    on = 'instance=~"$instance"'
    return board(
        "overview",
        "Who is under attack now, and what the handshakes of all servers come to.",
        [INSTANCE],
        [
            panel(
                "stat", "Floods now", "Is anybody under a SYN flood at this moment? Servers and prefixes with a running flood incident.",
                [target(f"sum(halfopen_incidents_active{{{on}, {FLOODS}}})", "floods")], 4, 4,
                thresholds=steps((None, GREEN), (1, RED)), decimals=0,
            ),
            panel(
                "stat", "Outages now", "Did a server stop answering, without being flooded? Servers with a running outage incident.",
                [target(f'sum(halfopen_incidents_active{{{on}, kind="outage"}})', "outages")], 4, 4,
                thresholds=steps((None, GREEN), (1, RED)), decimals=0,
            ),
            panel(
                "stat", "Scans and strays now", "Is somebody looking around, or answered in our name? Running scan, reflection and backscatter incidents; none of these harms a server by itself.",
                [target(f'sum(halfopen_incidents_active{{{on}, kind=~"port_scan|host_scan|reflection|backscatter"}})', "scans and strays")], 4, 4,
                thresholds=steps((None, GREEN), (1, YELLOW)), decimals=0,
            ),
            panel(
                "stat", "Embryonic connections", "How many handshakes are begun and not finished now, over all servers?",
                [target(f"sum(halfopen_embryonic_connections{{{on}}})", "embryonic")], 4, 4,
                options={"colorMode": "value"},
            ),
            panel(
                "stat", "Completed share", "Of the attempts of the last minutes, which share did the originators complete? Scans and crawlers keep it below 1 on any day; only a change means something.",
                [target(f'sum(rate(halfopen_handshakes_closed_total{{{on}, outcome="completed"}}[$__rate_interval])) / (sum(rate(halfopen_handshakes_opened_total{{{on}}}[$__rate_interval])) > 0)', "completed")],
                4, 4, "percentunit", thresholds=steps((None, RED), (0.5, ORANGE), (0.8, GREEN)), options={"colorMode": "value"}, min=0, max=1,
            ),
            panel(
                "stat", "Sensors down", "Do all sensors answer? How many of those that should be scraped cannot be; behind them nothing is watched. 0 is good.",
                [target('count(up{job=~".*halfopen.*", instance=~"$instance"}) - sum(up{job=~".*halfopen.*", instance=~"$instance"})', "down")],
                4, 4, decimals=0, thresholds=steps((None, GREEN), (1, RED)), noValue="Prometheus knows of no sensor", options={"graphMode": "none"},
            ),
            panel(
                "table", "Under attack now", "Who is under attack, by what, how gravely, and through which sensor? Empty is good. A flash crowd is listed too and is no attack. A row opens the server.",
                [instant(f"max by (server, kind, instance) (halfopen_incident_severity{{{on}}} > 0)", format="table")], 12, 8,
                noValue="no incident is running",
                transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {"server": 0, "kind": 1, "Value": 2, "instance": 3}, "renameByName": {"Value": "severity", "instance": "sensor"}}}],
                overrides=[
                    column("severity", mappings=SEVERITIES, cell={"type": "color-background"}),
                    column("server", links=TO_SERVER),
                ],
            ),
            panel(
                "state-timeline", "Incidents over time", "When did each incident begin and end, and how grave was it?",
                [target(f"max by (server, kind) (halfopen_incident_severity{{{on}}} > 0)", "{{kind}} on {{server}}")], 12, 8,
                mappings=SEVERITIES, noValue="no incident in this time", custom={"fillOpacity": 80}, color={"mode": "thresholds"},
                thresholds=steps((None, BLUE), (2, ORANGE), (3, RED)),
            ),
            panel(
                "timeseries", "Attempts against completions", "Do completions follow the attempts? Both rise in a flash crowd; in a flood only the attempts do; in an outage completions fall alone.",
                [
                    target(f"sum(rate(halfopen_handshakes_opened_total{{{on}}}[$__rate_interval])) + sum(rate(halfopen_handshakes_untracked_total{{{on}}}[$__rate_interval]))", "attempts"),
                    target(f'sum(rate(halfopen_handshakes_closed_total{{{on}, outcome="completed"}}[$__rate_interval]))', "completed"),
                    target(f"sum(rate(halfopen_server_unresolved_total{{{on}}}[$__rate_interval]))", "unresolved"),
                ],
                12, 8, PER_SECOND, overrides=[coloured("attempts", BLUE), coloured("completed", GREEN), coloured("unresolved", RED)],
            ),
            panel(
                "timeseries", "Embryonic connections by state", "Where do unfinished handshakes stand? syn_received: the server answered and waits for the ACK, which fills its queue; syn_sent: it has not answered.",
                [target(f"sum by (state) (halfopen_embryonic_connections{{{on}}})", "{{state}}")], 12, 8, custom=STACKED,
            ),
            panel(
                "timeseries", "How attempts end", "What became of the attempts? abandoned after a SYN-ACK is what forged floods leave; unanswered is a dead or dropping server; refused is a closed port.",
                [target(f"sum by (outcome) (rate(halfopen_handshakes_closed_total{{{on}}}[$__rate_interval]))", "{{outcome}}")], 12, 8, PER_SECOND,
                custom=STACKED, overrides=OUTCOME_COLOURS,
            ),
            panel(
                "timeseries", "Segments", "What is on the wire? SYN-ACKs far above SYNs are retransmissions to sources that do not exist; RSTs far above normal are refusals or victims of forgery answering.",
                [target(f"sum by (kind) (rate(halfopen_segments_total{{{on}}}[$__rate_interval]))", "{{kind}}")], 12, 8, PER_SECOND,
            ),
            panel(
                "bargauge", "SYN queues, fullest first", "Whose SYN queue is nearly full? The entries a server is reckoned to hold, as a share of its queue; servers whose queue is not known are not here.",
                [instant(f"topk(10, max by (server) (halfopen_server_backlog_occupancy{{{on}}}) / max by (server) (halfopen_server_backlog_limit{{{on}}} > 0))", "{{server}}")], 12, 8, "percentunit",
                min=0, max=1, thresholds=steps((None, GREEN), (0.5, YELLOW), (0.8, RED)), noValue="no queue size is known",
            ),
            panel(
                "table", "Top servers", "Which servers have the most trouble? Unresolved attempts a second, beside all attempts, completions, sources and embryonic connections. A row opens the server.",
                [
                    instant(f"topk(20, sum by (server) (rate(halfopen_server_unresolved_total{{{on}}}[$__rate_interval])))", format="table"),
                    instant(f"sum by (server) (rate(halfopen_server_attempts_total{{{on}}}[$__rate_interval]))", format="table"),
                    instant(f"sum by (server) (rate(halfopen_server_completed_total{{{on}}}[$__rate_interval]))", format="table"),
                    instant(f"sum by (server) (halfopen_server_embryonic_connections{{{on}}})", format="table"),
                    instant(f"max by (server) (halfopen_server_distinct_sources{{{on}}})", format="table"),
                ],
                12, 8,
                transformations=[
                    {"id": "joinByField", "options": {"byField": "server", "mode": "outer"}},
                    {
                        "id": "organize",
                        "options": {
                            "excludeByName": {f"Time{n}": True for n in ("", " 1", " 2", " 3", " 4", " 5")},
                            "renameByName": {"Value #A": "unresolved/s", "Value #B": "attempts/s", "Value #C": "completed/s", "Value #D": "embryonic", "Value #E": "sources"},
                        },
                    },
                    {"id": "sortBy", "options": {"sort": [{"field": "unresolved/s", "desc": True}]}},
                ],
                overrides=[column("server", links=TO_SERVER), column("unresolved/s", unit=PER_SECOND, thresholds=steps((None, GREEN), (1, YELLOW), (10, RED)), cell={"type": "color-text"}), column("attempts/s", unit=PER_SECOND), column("completed/s", unit=PER_SECOND)],
            ),
            panel(
                "timeseries", "Incidents raised", "How many incidents of each kind were raised in the last hour? Many short ones of a kind mean a threshold near what is normal.",
                [target(f"sum by (kind) (increase(halfopen_incidents_total{{{on}}}[1h])) > 0 or sum by (kind) (halfopen_incidents_total{{{on}}}) * 0", "{{kind}}")], 12, 8,
                custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}},
            ),
            panel(
                "timeseries", "Backscatter", "Do answers arrive to SYNs that nobody here sent? Then somebody forges our addresses against others.",
                [target(f"sum by (kind) (rate(halfopen_backscatter_total{{{on}}}[$__rate_interval]))", "{{kind}}")], 12, 8, PER_SECOND,
            ),
        ],
    )


def server():
    on = 'instance=~"$instance", server="$server"'
    node = 'instance=~"$node"'
    return board(
        "server",
        "One server: how full its SYN queue is, whether it is flooded and why, beside what its own kernel says.",
        [
            INSTANCE,
            variable("server", "Server", 'label_values(halfopen_server_attempts_total{instance=~"$instance"}, server)', multi=False, description="A name from the configuration, or address:port."),
            variable("node", "node_exporter", "label_values(node_netstat_TcpExt_SyncookiesSent, instance)", multi=False, description="The node_exporter on the server's own host, for its view of the same handshakes."),
        ],
        [
            panel(
                "stat", "Incident", "Is this server in trouble now, and how gravely?",
                [target(f'max(halfopen_incident_severity{{{on}, kind!="flash_crowd"}}) or vector(0)', "severity")], 4, 4,
                mappings=[{"type": "value", "options": {"0": {"text": "none", "color": GREEN, "index": 3}, **SEVERITIES[0]["options"]}}], options={"graphMode": "none"},
            ),
            panel(
                "stat", "Queue filled", "How full is its SYN queue, as reckoned?",
                [target(f"max(halfopen_server_backlog_occupancy{{{on}}}) / max(halfopen_server_backlog_limit{{{on}}} > 0)", "filled")], 4, 4, "percentunit",
                thresholds=steps((None, GREEN), (0.5, YELLOW), (0.8, RED)), noValue="queue size unknown", min=0,
            ),
            panel(
                "stat", "Time to full", "If this goes on, when is the queue full? The sensor walks the server's own rule forward, up to two minutes; 0 is full.",
                [target(f"min(halfopen_server_backlog_time_to_full_seconds{{{on}}})", "full in")], 4, 4, "s",
                thresholds=steps((None, RED), (30, ORANGE), (60, YELLOW)), noValue="not filling", options={"graphMode": "none"},
            ),
            panel(
                "stat", "Server mode", "How does it treat SYNs: does it queue them, send cookies, or drop them?",
                [instant(f"max by (mode) (halfopen_server_mode{{{on}}}) == 1", "{{mode}}")], 4, 4,
                options={"textMode": "name", "graphMode": "none", "colorMode": "value"}, noValue="nothing is known",
            ),
            panel(
                "stat", "Sources", "From how many sources did the unresolved attempts of the last minute come? Thousands are forged or a botnet; a handful can be blocked.",
                [target(f"max(halfopen_server_distinct_sources{{{on}}})", "sources")], 4, 4, options={"colorMode": "value"},
            ),
            panel(
                "stat", "Completed share", "Which share of its attempts is completed?",
                [target(f"sum(rate(halfopen_server_completed_total{{{on}}}[$__rate_interval])) / (sum(rate(halfopen_server_attempts_total{{{on}}}[$__rate_interval])) > 0)", "completed")], 4, 4, "percentunit",
                thresholds=steps((None, RED), (0.5, ORANGE), (0.8, GREEN)), options={"colorMode": "value"}, min=0, max=1, noValue="no attempts",
            ),
            panel(
                "timeseries", "SYN queue", "How near is the server's SYN queue to its limit? Entries it is reckoned to hold, by sensor, against the size that is configured or learned.",
                [
                    target(f"max by (instance) (halfopen_server_backlog_occupancy{{{on}}})", "held, seen by {{instance}}"),
                    target(f"max(halfopen_server_backlog_limit{{{on}}})", "limit"),
                ],
                12, 8, overrides=[dashed("limit")],
            ),
            panel(
                "timeseries", "The statistic against its threshold", "Why is this a flood, or why not? The log-likelihood ratio of a flood against this server's own baseline; at the threshold an incident is raised.",
                [
                    target(f"max by (instance) (halfopen_server_statistic{{{on}}})", "statistic at {{instance}}"),
                    target(f"min(halfopen_server_statistic_threshold{{{on}}})", "threshold"),
                ],
                12, 8, "none", overrides=[dashed("threshold")],
            ),
            panel(
                "timeseries", "Attempts, completed, unresolved", "What is asked of the server and what comes of it? The baseline is the mean of the day for unresolved attempts, over all sensors.",
                [
                    target(f"sum(rate(halfopen_server_attempts_total{{{on}}}[$__rate_interval]))", "attempts"),
                    target(f"sum(rate(halfopen_server_completed_total{{{on}}}[$__rate_interval]))", "completed"),
                    target(f"sum(rate(halfopen_server_unresolved_total{{{on}}}[$__rate_interval]))", "unresolved"),
                    target('sum(server:halfopen_server_unresolved:rate2m_avg1d{server="$server"})', "unresolved, usual"),
                ],
                12, 8, PER_SECOND, overrides=[coloured("attempts", BLUE), coloured("completed", GREEN), coloured("unresolved", RED), dashed(".*usual", ORANGE)],
            ),
            panel(
                "timeseries", "Over all sensors, each tap once", "What do all sensors together see? The sum over taps, of sensors on one tap the largest: what the fleet's alert looks at.",
                [
                    target('sum(server:halfopen_server_attempts:rate2m{server="$server"})', "attempts"),
                    target('sum(server:halfopen_server_completed:rate2m{server="$server"})', "completed"),
                    target('sum(server:halfopen_server_unresolved:rate2m{server="$server"})', "unresolved"),
                ],
                12, 8, PER_SECOND, overrides=[coloured("attempts", BLUE), coloured("completed", GREEN), coloured("unresolved", RED)],
            ),
            panel(
                "timeseries", "Embryonic connections", "Where do its unfinished handshakes stand?",
                [target(f"sum by (state) (halfopen_server_embryonic_connections{{{on}}})", "{{state}}")], 8, 8, custom=STACKED,
            ),
            panel(
                "timeseries", "Distinct sources", "From how many sources do unresolved attempts come?",
                [target(f"max by (instance) (halfopen_server_distinct_sources{{{on}}})", "seen by {{instance}}")], 8, 8,
            ),
            panel(
                "state-timeline", "Server mode over time", "When did it begin to send cookies or to drop?",
                [target(f"max by (mode) (halfopen_server_mode{{{on}}})", "{{mode}}")], 8, 8,
                mappings=[{"type": "value", "options": {"0": {"text": "no", "color": "transparent", "index": 0}, "1": {"text": "yes", "color": ORANGE, "index": 1}}}], custom={"fillOpacity": 80},
            ),
            panel(
                "heatmap", "Time from SYN to SYN-ACK", "How fast do servers answer? All servers of the sensor together. A second band at 1 s and 3 s is SYNs that had to be sent again.",
                [target('sum by (le) (increase(halfopen_syn_ack_latency_seconds_bucket{instance=~"$instance"}[$__rate_interval]))', "{{le}}", format="heatmap")], 12, 8, "s",
            ),
            panel(
                "heatmap", "Time of whole handshakes", "How long do clients wait for a connection? From SYN to the ACK that completes, all servers of the sensor together.",
                [target('sum by (le) (increase(halfopen_handshake_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval]))', "{{le}}", format="heatmap")], 12, 8, "s",
            ),
            row("What the server's own kernel says (node_exporter; see config/prometheus.yml for its flags)"),
            panel(
                "timeseries", "Cookies", "Does the kernel confirm the cookies that the sensor infers? Sent, and how many came back right or wrong.",
                [
                    target(f"sum(rate(node_netstat_TcpExt_SyncookiesSent{{{node}}}[$__rate_interval]))", "sent"),
                    target(f"sum(rate(node_netstat_TcpExt_SyncookiesRecv{{{node}}}[$__rate_interval]))", "came back"),
                    target(f"sum(rate(node_netstat_TcpExt_SyncookiesFailed{{{node}}}[$__rate_interval]))", "wrong"),
                ],
                8, 8, PER_SECOND,
            ),
            panel(
                "timeseries", "Full queues", "Which queue overflows? ListenOverflows: the accept queue; TCPReqQFullDrop and DoCookies: the SYN queue; ListenDrops: both and more.",
                [
                    target(f"sum(rate(node_netstat_TcpExt_ListenOverflows{{{node}}}[$__rate_interval]))", "ListenOverflows"),
                    target(f"sum(rate(node_netstat_TcpExt_ListenDrops{{{node}}}[$__rate_interval]))", "ListenDrops"),
                    target(f"sum(rate(node_netstat_TcpExt_TCPReqQFullDrop{{{node}}}[$__rate_interval]))", "TCPReqQFullDrop"),
                    target(f"sum(rate(node_netstat_TcpExt_TCPReqQFullDoCookies{{{node}}}[$__rate_interval]))", "TCPReqQFullDoCookies"),
                ],
                8, 8, PER_SECOND,
            ),
            panel(
                "timeseries", "Half-finished connections, by the kernel", "Does the sensor's figure agree with the host's own? Sockets in SYN_RECV of all ports, against the sensor's figure for this server.",
                [
                    # A state in which no socket is has no series; without tcpstat there is nothing at all.
                    target(f'sum(node_tcp_connection_states{{{node}, state="syn_recv"}}) or sum(node_tcp_connection_states{{{node}}}) * 0', "kernel, all ports"),
                    target(f'sum(halfopen_server_embryonic_connections{{{on}, state="syn_received"}})', "sensor, this server"),
                ],
                8, 8,
            ),
        ],
        ', server="$server"',
    )


def sensor():
    on = 'instance=~"$instance"'
    return board(
        "sensor",
        "The sensor's own health: whether it sees everything, and what it costs.",
        [INSTANCE],
        [
            panel(
                "stat", "Capturing", "Is every interface captured?", [target(f"min(halfopen_capture_up{{{on}}})", "up")], 4, 4,
                mappings=[{"type": "value", "options": {"0": {"text": "no", "color": RED, "index": 0}, "1": {"text": "yes", "color": GREEN, "index": 1}}}], options={"graphMode": "none"},
            ),
            panel(
                "stat", "Frames lost", "Which share of the frames never reached the sensor? In the last five minutes, on the worst interface. Every verdict carries this loss.",
                [target(f"max(instance_interface:halfopen_capture_drops:ratio_rate5m{{{on}}})", "lost")], 4, 4, "percentunit",
                thresholds=steps((None, GREEN), (0.001, YELLOW), (0.01, RED)), noValue="no frames", decimals=2,
            ),
            panel(
                "stat", "Table filled", "How near is the half-open table to its limit?", [target(f"max(instance:halfopen_table_fill:ratio{{{on}}})", "filled")], 4, 4, "percentunit",
                thresholds=steps((None, GREEN), (0.5, YELLOW), (0.75, RED)), decimals=1,
            ),
            panel(
                "stat", "Expiry lag", "Are attempts expired in time?", [target(f"max(halfopen_table_expiry_lag_seconds{{{on}}})", "lag")], 4, 4, "s",
                thresholds=steps((None, GREEN), (1, YELLOW), (5, RED)),
            ),
            panel(
                "stat", "Figures are old by", "Does the sensor's network time follow the clock? It ticks on a silent link too.",
                [target(f"max(time() - (halfopen_network_timestamp_seconds{{{on}}} > 0))", "old")], 4, 4, "s",
                thresholds=steps((None, GREEN), (30, YELLOW), (60, RED)),
            ),
            panel(
                "table", "Versions", "What is running where?", [instant(f"max by (instance, version, os, arch) (halfopen_build_info{{{on}}})", format="table")], 4, 4,
                transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}],
            ),
            panel(
                "timeseries", "Frames", "How much traffic does each interface bring?",
                [target(f"sum by (instance, interface) (rate(halfopen_capture_frames_total{{{on}}}[$__rate_interval]))", "{{instance}} {{interface}}")], 8, 8, "pps",
            ),
            panel(
                "timeseries", "Bytes", "How much is that on the wire?",
                [target(f"sum by (instance, interface) (rate(halfopen_capture_bytes_total{{{on}}}[$__rate_interval]))", "{{instance}} {{interface}}")], 8, 8, "Bps",
            ),
            panel(
                "timeseries", "Capture drops", "What is lost before the sensor, and where? kernel: the sensor is too slow or its buffer too small; interface: the card or its driver.",
                [target(f"sum by (instance, interface, by) (rate(halfopen_capture_drops_total{{{on}}}[$__rate_interval]))", "{{instance}} {{interface}} by {{by}}")], 8, 8, "pps",
            ),
            panel(
                "timeseries", "What frames are", "How much of what is captured is TCP that can be read?",
                [target(f"sum by (result) (rate(halfopen_frames_total{{{on}}}[$__rate_interval]))", "{{result}}")], 8, 8, "pps", custom=STACKED,
            ),
            panel(
                "timeseries", "Decode errors", "What cannot be read, and why? Later fragments hold no TCP header and are no error.",
                [
                    target(f"sum by (reason) (rate(halfopen_decode_errors_total{{{on}}}[$__rate_interval]))", "{{reason}}"),
                    target(f"sum(rate(halfopen_later_fragments_total{{{on}}}[$__rate_interval]))", "later fragments"),
                ],
                8, 8, "pps",
            ),
            panel(
                "timeseries", "Odd segments", "What fits no handshake? Mismatched: forged or very late answers. Retransmissions tell loss, floods and dead servers.",
                [
                    target(f"sum(rate(halfopen_mismatched_segments_total{{{on}}}[$__rate_interval]))", "mismatched"),
                    target(f"sum(rate(halfopen_syn_retransmissions_total{{{on}}}[$__rate_interval]))", "SYN again"),
                    target(f"sum(rate(halfopen_syn_ack_retransmissions_total{{{on}}}[$__rate_interval]))", "SYN-ACK again"),
                    target(f"sum(rate(halfopen_handshakes_not_taken_total{{{on}}}[$__rate_interval]))", "completed, not taken"),
                    target(f"sum(rate(halfopen_simultaneous_opens_total{{{on}}}[$__rate_interval]))", "simultaneous open"),
                ],
                8, 8, PER_SECOND,
            ),
            panel(
                "timeseries", "Half-open table", "How many attempts are held, against the limit?",
                [
                    target(f"sum by (instance) (halfopen_embryonic_connections{{{on}}})", "{{instance}}"),
                    target(f"min(halfopen_embryonic_connections_limit{{{on}}})", "limit"),
                ],
                8, 8, overrides=[dashed("limit")],
            ),
            panel(
                "timeseries", "Under pressure", "Was the table ever too small? Emergencies shorten lives; sampled entries stand for several attempts; untracked SYNs are counted only. Unread events are those that no queue model heard of.",
                [
                    target(f"max(halfopen_table_emergency{{{on}}})", "emergency now"),
                    target(f"sum(increase(halfopen_table_emergencies_total{{{on}}}[$__rate_interval]))", "emergencies begun"),
                    target(f"sum(rate(halfopen_table_sampled_total{{{on}}}[$__rate_interval]))", "sampled/s"),
                    target(f"sum(rate(halfopen_handshakes_untracked_total{{{on}}}[$__rate_interval]))", "untracked/s"),
                    target(f"sum(rate(halfopen_backlog_notes_dropped_total{{{on}}}[$__rate_interval]))", "unread/s"),
                ],
                8, 8,
            ),
            panel(
                "timeseries", "Expiry lag and clocks", "Is expiry late, or a clock wrong? Time jumps are packets stamped more than a minute back.",
                [
                    target(f"max by (instance) (halfopen_table_expiry_lag_seconds{{{on}}})", "lag of {{instance}}"),
                    target(f"sum(increase(halfopen_time_jumps_total{{{on}}}[$__rate_interval]))", "time jumps"),
                    target(f"sum(increase(halfopen_capture_reopened_total{{{on}}}[$__rate_interval]))", "captures opened again"),
                ],
                8, 8, "s", overrides=[column("time jumps", unit="short"), column("captures opened again", unit="short")],
            ),
            panel(
                "timeseries", "CPU", "How much of a core does the sensor take?",
                [target(f"rate(process_cpu_seconds_total{{{on}, job=~\".*halfopen.*\"}}[$__rate_interval])", "{{instance}}")], 8, 8, "percentunit",
            ),
            panel(
                "timeseries", "Memory", "How much memory does it hold, and how much of it is the half-open table?",
                [
                    target(f"process_resident_memory_bytes{{{on}, job=~\".*halfopen.*\"}}", "resident {{instance}}"),
                    target(f"halfopen_table_bytes{{{on}}}", "table {{instance}}"),
                    target(f"halfopen_memory_reckoned_bytes{{{on}}}", "most by its caps {{instance}}"),
                    target(f"halfopen_memory_limit_bytes{{{on}}}", "ceiling {{instance}}"),
                ],
                8, 8, "bytes",
            ),
            panel(
                "timeseries", "Scrapes", "How long does a scrape of the sensor take, how many series does it bring, and do other connections crowd it?",
                [
                    target(f"scrape_duration_seconds{{{on}, job=~\".*halfopen.*\"}}", "time {{instance}}"),
                    target(f"scrape_samples_scraped{{{on}, job=~\".*halfopen.*\"}}", "series {{instance}}"),
                    target(f"sum(increase(halfopen_http_connections_evicted_total{{{on}}}[$__rate_interval]))", "idle connections closed"),
                    target(f"sum(increase(halfopen_http_connections_refused_total{{{on}}}[$__rate_interval]))", "connections refused"),
                ],
                8, 8, "s", overrides=[{"matcher": {"id": "byRegexp", "options": "(series|idle|connections).*"}, "properties": [{"id": "unit", "value": "short"}, {"id": "custom.axisPlacement", "value": "right"}]}],
            ),
            panel(
                "timeseries", "Journal and evidence", "Are incidents written down, and is anything of them lost?",
                [
                    target(f"sum(increase(halfopen_journal_written_total{{{on}}}[$__rate_interval]))", "lines written"),
                    target(f"sum(increase(halfopen_journal_errors_total{{{on}}}[$__rate_interval]))", "lines lost to errors"),
                    target(f"sum(increase(halfopen_journal_dropped_total{{{on}}}[$__rate_interval]))", "lines dropped"),
                    target(f"sum(increase(halfopen_evidence_frames_total{{{on}}}[$__rate_interval]))", "frames kept"),
                    target(f"sum by (reason) (increase(halfopen_evidence_left_out_total{{{on}}}[$__rate_interval]))", "frames left out: {{reason}}"),
                    target(f"sum(increase(halfopen_evidence_errors_total{{{on}}}[$__rate_interval]))", "evidence not written"),
                    target(f"sum(halfopen_evidence_bytes{{{on}}})", "evidence in memory"),
                ],
                8, 8, "short", overrides=[{"matcher": {"id": "byName", "options": "evidence in memory"}, "properties": [{"id": "unit", "value": "bytes"}, {"id": "custom.axisPlacement", "value": "right"}]}],
            ),
            panel(
                "state-timeline", "Confinement", "Does every layer by which the sensor gives up its rights hold? Red: the host refuses it, or [privileges] switches it off.",
                [target(f"min by (layer) (halfopen_confinement_active{{{on}}})", "{{layer}}")], 8, 8,
                mappings=[{"type": "value", "options": {"0": {"text": "not in force", "color": RED, "index": 0}, "1": {"text": "holds", "color": GREEN, "index": 1}}}],
                color={"mode": "thresholds"}, thresholds=steps((None, RED), (1, GREEN)), custom={"fillOpacity": 80},
            ),
            panel(
                "timeseries", "State and restarts", "Is the state kept that a restart must not lose, and did a capture have to be started again?",
                [
                    target(f"sum(increase(halfopen_state_written_total{{{on}}}[$__rate_interval]))", "state written"),
                    target(f"sum(increase(halfopen_state_errors_total{{{on}}}[$__rate_interval]))", "state not written"),
                    target(f"sum(halfopen_state_set_aside_total{{{on}}})", "state files set aside"),
                    target(f"sum(halfopen_state_bytes{{{on}}})", "state"),
                    target(f"sum(increase(halfopen_capture_restarts_total{{{on}}}[$__rate_interval]))", "captures started again"),
                ],
                8, 8, "short", overrides=[{"matcher": {"id": "byName", "options": "state"}, "properties": [{"id": "unit", "value": "bytes"}, {"id": "custom.axisPlacement", "value": "right"}]}],
            ),
        ],
    )


def half_open():
    on = 'instance=~"$instance"'
    return board(
        "half-open",
        "Half-open connections in the sense of RFC 9293, section 3.5.1: one end of an established connection is gone and the other does not know. Unfinished handshakes are embryonic and on the other dashboards.",
        [INSTANCE],
        [
            panel(
                "stat", "Discovered in an hour", "How many connections came to light as half-open in the last hour?",
                [target(f"sum(increase(halfopen_half_open_discovered_total{{{on}}}[1h]))", "discovered")], 8, 4, decimals=0,
                thresholds=steps((None, GREEN), (10, YELLOW), (100, RED)),
            ),
            panel(
                "stat", "Suspected now", "How many connections look as if one end were gone, without proof yet?",
                [target(f"sum(halfopen_half_open_suspected{{{on}}})", "suspected")], 8, 4, decimals=0,
                thresholds=steps((None, GREEN), (10, YELLOW), (100, RED)),
            ),
            panel(
                "stat", "Resets", "How many resets a second are on the wire? Every discovery makes one.",
                [target(f'sum(rate(halfopen_segments_total{{{on}, kind="rst"}}[$__rate_interval]))', "resets")], 8, 4, PER_SECOND, options={"colorMode": "value"},
            ),
            panel(
                "timeseries", "Discoveries by case", "How did it come to light? reconnect: a host came back and opened the same connection again (RFC 9293 figure 9); reset_on_data: data met a host that knows nothing of the connection (figure 10).",
                [target(f"sum by (case) (increase(halfopen_half_open_discovered_total{{{on}}}[$__rate_interval]))", "{{case}}")], 12, 9, custom={"drawStyle": "bars", "fillOpacity": 60},
            ),
            panel(
                "timeseries", "Suspected connections", "Do dead connections pile up? A steady climb is a middlebox that forgets, or keepalives that are missing.",
                [target(f"sum by (instance) (halfopen_half_open_suspected{{{on}}})", "{{instance}}")], 12, 9,
            ),
            panel(
                "timeseries", "Discoveries by sensor", "Behind which sensor do hosts vanish?",
                [target(f"sum by (instance) (increase(halfopen_half_open_discovered_total{{{on}}}[$__rate_interval]))", "{{instance}}")], 12, 9, custom={"drawStyle": "bars", "fillOpacity": 60},
            ),
            panel(
                "timeseries", "Mismatched segments and resets", "Are there challenge ACKs and resets beside it? Mismatched segments rise with old duplicates, crashed hosts and forgeries alike.",
                [
                    target(f"sum(rate(halfopen_mismatched_segments_total{{{on}}}[$__rate_interval]))", "mismatched"),
                    target(f'sum(rate(halfopen_segments_total{{{on}, kind="rst"}}[$__rate_interval]))', "resets"),
                    target(f'sum(rate(halfopen_handshakes_closed_total{{{on}, outcome="superseded"}}[$__rate_interval]))', "superseded attempts"),
                ],
                12, 9, PER_SECOND,
            ),
            panel(
                "timeseries", "Oddities", "Which exchanges of RFC 9293 that no handshake needs are there? challenge_ack: a SYN met a live connection, by a crashed host or a forger; disowned_syn: mostly scanners.",
                [target(f"sum by (kind) (rate(halfopen_handshake_oddities_total{{{on}}}[$__rate_interval]))", "{{kind}}")], 12, 9, PER_SECOND,
            ),
            panel(
                "timeseries", "Connections followed", "Is there room for every established connection? What is evicted cannot be discovered.",
                [
                    target(f"sum by (instance) (halfopen_established_connections{{{on}}})", "{{instance}}"),
                    target(f"sum by (instance) (halfopen_established_connections_limit{{{on}}})", "{{instance}} limit"),
                    target(f"sum by (instance) (increase(halfopen_established_evicted_total{{{on}}}[$__rate_interval]))", "{{instance}} evicted"),
                ],
                12, 9,
            ),
            panel(
                "timeseries", "Suspicions", "How often does one end fall silent while the other repeats itself, how near is the list to its limit, and what was not told?",
                [
                    target(f"sum by (instance) (increase(halfopen_half_open_suspicions_total{{{on}}}[$__rate_interval]))", "{{instance}} suspected"),
                    target(f"sum by (instance) (increase(halfopen_half_open_untold_total{{{on}}}[$__rate_interval]))", "{{instance}} not told"),
                    target(f"sum by (instance) (increase(halfopen_handshake_oddities_untold_total{{{on}}}[$__rate_interval]))", "{{instance}} oddities not told"),
                    target(f"max by (instance) (halfopen_half_open_suspected{{{on}}} / (halfopen_half_open_suspected_limit{{{on}}} > 0))", "{{instance}} list filled"),
                ],
                12, 9, overrides=[{"matcher": {"id": "byRegexp", "options": ".* list filled"}, "properties": [{"id": "unit", "value": "percentunit"}, {"id": "max", "value": 1}, {"id": "custom.axisPlacement", "value": "right"}]}],
            ),
            panel(
                "timeseries", "Memory for connections", "What does following them cost? It is taken once and does not grow.",
                [target(f"sum by (instance) (halfopen_established_bytes{{{on}}})", "{{instance}}")], 12, 9, "bytes",
            ),
        ],
    )


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit("usage: dashboards/generate.py [--check]")
    stale = []
    for make in (overview, server, sensor, half_open):
        made = make()
        path = HERE / f"{made['uid']}.json"
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"not what dashboards/generate.py writes: {', '.join(stale)}; run it, and edit it instead of them")


if __name__ == "__main__":
    main()
