//! A real Prometheus with the rules that ship, a node_exporter where there is one, and a page for it to scrape.

use super::process::Process;
use super::{has_tools, wait_for};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Serves whatever is put into it to whoever connects. Its thread ends with the test.
pub fn serve(page: &Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let page = Arc::clone(page);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let body = page.lock().unwrap().clone();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let _ = write!(&stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

/// Starts a program that says where it listens.
fn listening(command: &mut Command) -> (Process, String) {
    let mut process = Process::start(command);
    let line = process.wait_for_line("Listening on", Duration::from_secs(30));
    let address = line.rsplit_once("address=").unwrap().1.trim().to_owned();
    (process, address)
}

/// A Prometheus and what it scrapes; its folder is deleted with it.
pub struct Prometheus {
    _process: Process,
    node: Option<Process>,
    api: String,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts both on ports of their own, with the rules that ship; each second a scrape.
    pub fn start(folder: PathBuf, sensor: &str) -> Self {
        // The flags of config/prometheus.yml: without them half of what the dashboard shows is not there.
        let fields = r"^(.*_(InErrors|InErrs)|TcpExt_(Listen.*|Syncookies.*|TCPReqQFull.*|TCPSynRetrans)|Tcp_(ActiveOpens|AttemptFails|CurrEstab|PassiveOpens|RetransSegs|OutRsts))$";
        assert!(
            fs::read_to_string(at("config/prometheus.yml")).unwrap().contains(fields),
            "config/prometheus.yml recommends other flags"
        );
        let node = has_tools(&[("prometheus-node-exporter", "--version")]).then(|| {
            listening(
                Command::new("prometheus-node-exporter")
                    .args(["--web.listen-address=127.0.0.1:0", "--collector.disable-defaults"])
                    .args(["--collector.netstat", "--collector.tcpstat"])
                    .arg(format!("--collector.netstat.fields={fields}")),
            )
        });
        let target = |job: &str, address: &str| {
            format!("  - job_name: {job}\n    static_configs:\n      - targets: ['{address}']\n")
        };
        let mut config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: ['{}/*.yml']\nscrape_configs:\n{}",
            at("config/rules").display(),
            target("halfopen", sensor)
        );
        let node = node.map(|(process, address)| {
            config += &target("node", &address);
            process
        });
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let (process, address) = listening(
            Command::new("prometheus")
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
                .args(["--web.listen-address=127.0.0.1:0", "--log.level=info"]),
        );
        let this = Self { _process: process, node, api: format!("http://{address}/api/v1"), folder };
        wait_for("a Prometheus that is ready", Duration::from_secs(30), || {
            this.ask("query", &[("query", "1")])
        });
        this
    }

    /// Whether a node_exporter stands beside the sensor.
    pub fn has_node(&self) -> bool {
        self.node.is_some()
    }

    /// What it answers; its own words where it refuses.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("{}/{path}", self.api)).query_pairs(parameters.iter().copied());
        let mut answer = request.call().map_err(|why| why.to_string())?;
        let document: Value = answer.body_mut().read_json().map_err(|why| why.to_string())?;
        if document["status"] == "success" {
            Ok(document["data"].clone())
        } else {
            Err(document["error"].as_str().unwrap_or_default().to_owned())
        }
    }

    /// The samples of a query as of now.
    pub fn query(&self, expr: &str) -> Result<Vec<Value>, String> {
        Ok(self.ask("query", &[("query", expr)])?["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until an alert is in this state.
    pub fn wait_for_alert(&self, name: &str, state: &str, within: Duration) -> Value {
        wait_for(&format!("{name} {state}"), within, || {
            let expr = format!(r#"ALERTS{{alertname="{name}", alertstate="{state}"}}"#);
            self.query(&expr)?.into_iter().next().ok_or_else(|| format!("{:?}", self.query("ALERTS")))
        })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
