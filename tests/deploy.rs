//! What ships to start the sensor by: that each file is what its reader takes, and asks for no right it does not need.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails should say so at once"
)]

use halfopen::config::Config;
use marked_yaml::Node;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A file of the project.
fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// One YAML document, walked by keys and numbers with dots between them.
struct Document(&'static str, Node);

impl Document {
    fn read(path: &'static str) -> Self {
        Self(path, marked_yaml::parse_yaml(0, read(path)).unwrap_or_else(|why| panic!("{path}: {why}")))
    }

    fn find(&self, place: &str) -> Option<&Node> {
        place.split('.').try_fold(&self.1, |node, key| match node {
            Node::Mapping(mapping) => mapping.get_node(key),
            Node::Sequence(sequence) => sequence.get(key.parse::<usize>().ok()?),
            Node::Scalar(_) => None,
        })
    }

    fn node(&self, place: &str) -> &Node {
        self.find(place).unwrap_or_else(|| panic!("{} has no {place}", self.0))
    }

    fn text(&self, place: &str) -> &str {
        self.node(place).as_scalar().unwrap_or_else(|| panic!("{}: {place}", self.0)).as_str()
    }

    fn list(&self, place: &str) -> Vec<&str> {
        let list = self.node(place).as_sequence().unwrap_or_else(|| panic!("{}: {place}", self.0));
        list.iter().map(|node| node.as_scalar().unwrap().as_str()).collect()
    }

    fn len(&self, place: &str) -> usize {
        self.node(place).as_sequence().unwrap().len()
    }
}

/// The files a shipped configuration keeps things in.
fn kept(text: &str) -> BTreeSet<PathBuf> {
    let config = Config::parse("shipped", text).unwrap();
    [config.state.path, config.journal.path, config.evidence.path].into_iter().flatten().collect()
}

#[test]
fn compose_gives_the_sensor_one_right_and_a_place_of_its_own() {
    let compose = Document::read("deploy/compose.yaml");
    let services = compose.node("services").as_mapping().unwrap();
    let names: Vec<&str> = services.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["halfopen", "prometheus", "alertmanager", "grafana"]);
    for name in names {
        let of = |key: &str| format!("services.{name}.{key}");
        assert_eq!(compose.list(&of("cap_drop")), ["ALL"], "{name}");
        assert_eq!(compose.text(&of("network_mode")), "host", "{name}");
        assert!(!compose.text(&of("image")).is_empty());
        let added = compose.find(&of("cap_add")).map(|_| compose.list(&of("cap_add")));
        assert_eq!(added, (name == "halfopen").then(|| vec!["NET_RAW"]), "{name}");
        assert!(compose.find(&of("privileged")).is_none() && compose.find(&of("ports")).is_none(), "{name}");
        // Every file that is mounted is there, and every volume is declared.
        for volume in compose.list(&of("volumes")) {
            let source = volume.split(':').next().unwrap();
            if source.starts_with('.') {
                let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(source);
                assert!(path.exists(), "{name}: {source}");
            } else {
                assert!(compose.find(&format!("volumes.{source}")).is_some(), "{name}: {source}");
            }
        }
    }
    assert_eq!(compose.text("services.halfopen.read_only"), "true");
    let volumes = compose.list("services.halfopen.volumes");
    assert!(volumes.contains(&"halfopen:/var/lib/halfopen"), "{volumes:?}");
    assert!(volumes.contains(&"./halfopen.toml:/etc/halfopen/halfopen.toml:ro"), "{volumes:?}");
    let kept = kept(&read("deploy/halfopen.toml"));
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|path| path.starts_with("/var/lib/halfopen")), "{kept:?}");
    // A volume is whose the image's directory is.
    assert!(read("Dockerfile").contains("--owner halfopen --group halfopen --mode 0700 /var/lib/halfopen"));
}

#[test]
fn kubernetes_gives_the_sensor_one_right_and_probes_that_need_no_password() {
    let set = Document::read("deploy/kubernetes/daemonset.yaml");
    assert_eq!((set.text("apiVersion"), set.text("kind")), ("apps/v1", "DaemonSet"));
    let pod = "spec.template.spec";
    assert_eq!(set.text(&format!("{pod}.hostNetwork")), "true");
    assert_eq!(set.text(&format!("{pod}.automountServiceAccountToken")), "false");
    assert_eq!(set.len(&format!("{pod}.containers")), 1);
    let of = |key: &str| format!("{pod}.containers.0.{key}");
    assert_eq!(set.text(&of("image")), format!("halfopen:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(set.list(&of("securityContext.capabilities.drop")), ["ALL"]);
    assert_eq!(set.list(&of("securityContext.capabilities.add")), ["NET_RAW"]);
    assert_eq!(set.text(&of("securityContext.runAsUser")), "10793", "the image's user");
    assert!(read("Dockerfile").contains("--uid 10793"));
    assert_eq!(set.text(&of("securityContext.readOnlyRootFilesystem")), "true");
    for (probe, path) in [("readinessProbe", "/-/ready"), ("livenessProbe", "/-/healthy")] {
        assert_eq!(set.text(&of(&format!("{probe}.httpGet.path"))), path);
        assert_eq!(set.text(&of(&format!("{probe}.httpGet.port"))), set.text(&of("ports.0.name")));
    }
    // The ceiling of memory, and what the process takes beside what it counts.
    assert_eq!(set.text(&of("resources.limits.memory")), "640Mi");
    assert!(Config::default().limits.memory < 640 << 20);
    let volumes: BTreeSet<&str> = (0..set.len(&format!("{pod}.volumes")))
        .map(|n| set.text(&format!("{pod}.volumes.{n}.name")))
        .collect();
    let mounts: BTreeSet<&str> =
        (0..set.len(&of("volumeMounts"))).map(|n| set.text(&of(&format!("volumeMounts.{n}.name")))).collect();
    assert_eq!(mounts, volumes);
    let arguments = set.list(&of("args"));
    assert!(arguments.contains(&"--config.file=/etc/halfopen/halfopen.toml"), "{arguments:?}");

    let map = Document::read("deploy/kubernetes/configmap.yaml");
    assert_eq!((map.text("apiVersion"), map.text("kind")), ("v1", "ConfigMap"));
    let volume = (0..4).find(|n| set.find(&format!("{pod}.volumes.{n}.configMap")).is_some()).unwrap();
    assert_eq!(set.text(&format!("{pod}.volumes.{volume}.configMap.name")), map.text("metadata.name"));
    let node = map.node("data").as_mapping().unwrap();
    let toml = node.get_node("halfopen.toml").unwrap().as_scalar().unwrap().as_str();
    assert_eq!(kept(toml), kept(&read("deploy/halfopen.toml")), "as with compose");
    let mount = "/etc/halfopen-web";
    let with_password = toml.replace("#web.config_file", "web.config_file");
    let file = Config::parse("configmap", &with_password).unwrap().web.config_file.unwrap();
    assert!(
        file.starts_with(mount)
            && (0..3).any(|n| set.text(&of(&format!("volumeMounts.{n}.mountPath"))) == mount)
    );

    let monitor = Document::read("deploy/kubernetes/podmonitor.yaml");
    assert_eq!(
        (monitor.text("apiVersion"), monitor.text("kind")),
        ("monitoring.coreos.com/v1", "PodMonitor")
    );
    assert_eq!(monitor.text("spec.podMetricsEndpoints.0.port"), set.text(&of("ports.0.name")));
    let readme = read("deploy/kubernetes/README.md");
    for file in ["daemonset.yaml", "configmap.yaml", "podmonitor.yaml"] {
        assert!(readme.contains(&format!("`{file}`")), "{file} is not explained");
    }
    assert!(readme.contains("without a password") && readme.lines().count() <= 60, "one screen");
}

#[test]
fn the_unit_says_how_a_key_of_roots_is_handed_over() {
    let unit = read("deploy/halfopen.service");
    assert!(unit.contains("\nDynamicUser=yes\n"));
    for credential in ["web.yml", "web.crt", "web.key"] {
        assert!(unit.contains(&format!("\n#LoadCredential={credential}:/etc/halfopen/{credential}\n")));
    }
    let set: BTreeSet<&str> = unit.lines().filter(|line| line.contains("CAP_")).collect();
    assert_eq!(set, BTreeSet::from(["AmbientCapabilities=CAP_NET_RAW", "CapabilityBoundingSet=CAP_NET_RAW"]));
}
