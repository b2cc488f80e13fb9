//! Stage 5 of 5, report: everything one look needs, as one document: what the page and `halfopen top` show.
//!
//! `GET /api/v1/overview`. Keys are never renamed. Decides nothing.

use super::history::Sample;
use super::metrics::OUTCOMES;
use super::snapshot::Snapshot;
use crate::detect::incident::{Incident, Severity};
use serde_json::{Map, Value, json};

/// A snapshot with what came before it and what the sensor itself takes.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Everything at this moment.
    pub snapshot: Snapshot,
    /// The last minutes, oldest first.
    pub history: Vec<Sample>,
    /// The sensor's own process.
    pub process: Process,
}

/// What the sensor's process takes; 0 where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Memory resident, bytes.
    pub resident: u64,
    /// CPU time so far, seconds, of all threads.
    pub cpu: f64,
    /// Of one core, since the look before this one; 0 to the number of cores.
    pub cpu_share: f64,
}

impl Process {
    /// This process; `cpu_share` is left at 0, for it takes two looks.
    pub fn now() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        Self { resident: super::summary::memory("VmRSS:"), cpu, cpu_share: 0.0 }
    }
}

impl Overview {
    /// Incidents that run, the gravest first, of these the newest.
    pub fn running(&self) -> Vec<&Incident> {
        let mut running: Vec<&Incident> =
            self.snapshot.incidents.iter().filter(|incident| incident.ended_at.is_none()).collect();
        running.sort_by_key(|incident| std::cmp::Reverse((incident.severity, incident.onset)));
        running
    }

    /// The gravest severity among those that run; none in peace.
    pub fn gravest(&self) -> Option<Severity> {
        self.running().first().map(|incident| incident.severity)
    }

    /// The document.
    pub fn document(&self) -> Value {
        let snapshot = &self.snapshot;
        let table = &snapshot.table;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "network_time": snapshot.network_time.map(|at| at.as_secs_f64()),
            "state": self.gravest().map_or(json!("quiet"), |severity| json!(severity)),
            "handshakes": self.handshakes(),
            "half_open": {
                "discovered": {
                    "reconnect": snapshot.half_open.reconnect,
                    "reset_on_data": snapshot.half_open.reset_on_data,
                },
                "suspected": snapshot.half_open.suspected,
            },
            "frames": self.frames(),
            "table": {
                "limit": table.limit,
                "bytes": table.bytes,
                "emergency": table.emergency,
                "sampled": table.sampled,
                "expiry_lag_seconds": table.expiry_lag,
            },
            "interfaces": self.interfaces(),
            "process": {
                "resident_bytes": self.process.resident,
                "cpu_seconds": self.process.cpu,
                "cpu_share": self.process.cpu_share,
            },
            "servers": snapshot.servers,
            "incidents": snapshot.incidents,
            "history": self.history(),
        })
    }

    fn handshakes(&self) -> Value {
        let counts = &self.snapshot.handshakes;
        let mut object = Map::new();
        object.insert("attempts".to_owned(), counts.attempts.into());
        object.extend(
            OUTCOMES.iter().zip(counts.closed).map(|(name, count)| ((*name).to_owned(), count.into())),
        );
        object.insert("untracked".to_owned(), counts.untracked.into());
        let open = json!({ "syn_sent": counts.open_syn_sent, "syn_received": counts.open_syn_received });
        object.insert("open".to_owned(), open);
        Value::Object(object)
    }

    fn frames(&self) -> Value {
        let frames = &self.snapshot.frames;
        let undecoded: Map<String, Value> =
            frames.undecoded.iter().map(|(reason, count)| ((*reason).to_owned(), (*count).into())).collect();
        json!({ "read": frames.read, "tcp": frames.tcp, "not_tcp": frames.not_tcp, "undecoded": undecoded })
    }

    fn interfaces(&self) -> Vec<Value> {
        let each = self.snapshot.interfaces.iter().map(|view| {
            json!({
                "interface": view.name,
                "up": view.up,
                "frames": view.frames,
                "bytes": view.bytes,
                "drops_kernel": view.drops_kernel,
                "drops_interface": view.drops_interface,
            })
        });
        each.collect()
    }

    /// Columns, not rows: the names once.
    fn history(&self) -> Value {
        let column = |of: fn(&Sample) -> u64| self.history.iter().map(of).collect::<Vec<u64>>();
        let at: Vec<f64> = self.history.iter().map(|sample| sample.at.as_secs_f64()).collect();
        json!({
            "at": at,
            "attempts": column(|sample| sample.attempts),
            "completed": column(|sample| sample.completed),
            "untracked": column(|sample| sample.untracked),
            "syn_sent": column(|sample| sample.syn_sent),
            "syn_received": column(|sample| sample.syn_received),
            "frames": column(|sample| sample.frames),
            "drops": column(|sample| sample.drops),
        })
    }
}
