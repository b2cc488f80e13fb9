//! Configuration: the web side's own file, TLS and passwords, in the format of Prometheus's exporter-toolkit.
//!
//! Only what it says; certificates are read where they are used. Every problem has its line. What the format has and this sensor
//! does not is refused by name, never ignored: a setting that does nothing is worse than none.

use super::reader::{self, Problem, Problems, nearest};
use super::tls::{ClientAuth, TlsVersion};
use marked_yaml::types::{MarkedMappingNode, MarkedScalarNode};
use marked_yaml::{LoaderOptions, Node, Span, parse_yaml_with_options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebFile {
    /// TLS; none: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// bcrypt hashes by user; empty: no password is asked for.
    pub users: BTreeMap<String, String>,
    /// Headers added to every answer.
    pub headers: Vec<(&'static str, String)>,
}

/// Where the certificates are, and who may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and what leads from it to an authority, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// The authorities that clients' certificates come from, PEM.
    pub client_ca: Option<PathBuf>,
    /// Names or addresses of which a client's certificate must have one; empty: any.
    pub client_sans: Vec<String>,
    /// The oldest version spoken.
    pub min: TlsVersion,
    /// The newest.
    pub max: TlsVersion,
}

/// Most bytes of such a file: a thousand users take a tenth of it.
const LARGEST: usize = 1 << 20;

/// A bcrypt cost above this takes more than seconds for each first request: a typing error, or meant to be one.
const COSTLIEST: u32 = 16;

/// The headers the format knows.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

impl WebFile {
    /// Reads and parses a file; paths in it are relative to where it is.
    ///
    /// # Errors
    /// That it cannot be read, or every problem it has.
    pub fn load(file: &Path) -> Result<Self, Problems> {
        let name = file.display().to_string();
        let text = reader::text(file).map_err(|why| Problems::of_file(name.clone(), why))?;
        Self::parse(&name, &text, file.parent().unwrap_or(Path::new("")))
    }

    /// Text to what it says. `file` is what the problems call it, `directory` what paths are relative to.
    ///
    /// # Errors
    /// Every problem the text has, each with its line; of broken YAML the first.
    pub fn parse(file: &str, text: &str, directory: &Path) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let web = match yaml(text) {
            Ok(Some(node)) => Reader { directory, problems: &mut problems }.file(&node),
            Ok(None) => Self::default(),
            Err(problem) => {
                problems.push(problem);
                Self::default()
            }
        };
        problems.sort_by_key(|problem: &Problem| problem.line);
        if problems.is_empty() { Ok(web) } else { Err(Problems { file: file.to_owned(), list: problems }) }
    }
}

/// The top of the file; none where it is empty.
fn yaml(text: &str) -> Result<Option<Node>, Problem> {
    let problem = |line, what: String| Problem { line, key: String::new(), what };
    let blank =
        |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---";
    if text.len() > LARGEST {
        return Err(problem(None, "is larger than 1 MiB; name a web configuration file".to_owned()));
    }
    if text.lines().all(blank) {
        return Ok(None);
    }
    // "- - - -" nests by two bytes a level: deeper than any stack. By indentation a level takes its own depth in bytes.
    let deep = |line: &str| {
        line.split([' ', '\t'])
            .filter(|word| !word.is_empty())
            .take_while(|word| matches!(*word, "-" | "?" | ":"))
            .count()
            > 4
    };
    if let Some(at) = text.lines().position(|line| deep(line) || line.len() - line.trim_start().len() > 100) {
        return Err(problem(Some(at + 1), "is nested too deeply; the format has three levels".to_owned()));
    }
    let options = LoaderOptions::default().error_on_duplicate_keys(true);
    parse_yaml_with_options(0, text, options).map(Some).map_err(|error| {
        let words = error.to_string();
        // "at 2:3 and 3:3", or "at line 2 column 3": of several places the last, where the second of two begins.
        let number =
            |word: &str| word.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
        let pair = words.split(' ').rev().find(|word| word.contains(':')).and_then(number);
        let line = pair.or_else(|| words.rsplit_once("line ").and_then(|(_, rest)| number(rest)));
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        problem(line, format!("{words}; see yaml.org for the syntax"))
    })
}

/// Walks the document and remembers what is wrong with it.
struct Reader<'a> {
    directory: &'a Path,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, span: &Span, key: &str, what: impl Into<String>) {
        let clean =
            |text: String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
        let line = span.start().map(marked_yaml::Marker::line);
        self.problems.push(Problem { line, key: clean(key.to_owned()), what: clean(what.into()) });
    }

    /// Every key of a mapping, by name; those not known are problems.
    fn keys<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        known: &[&str],
    ) -> Vec<(&'n MarkedScalarNode, &'n Node)> {
        let Some(mapping) = self.mapping(node, path) else { return Vec::new() };
        let (right, wrong): (Vec<_>, Vec<_>) =
            mapping.iter().partition(|(key, _)| known.contains(&key.as_str()));
        for (key, _) in wrong {
            let what = match nearest(key.as_str(), known) {
                Some(near) => format!("unknown key; did you mean '{near}'?"),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            self.problem(key.span(), &join(path, key.as_str()), what);
        }
        right
    }

    fn mapping<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n MarkedMappingNode> {
        let mapping = node.as_mapping();
        if mapping.is_none() && !is_null(node) {
            self.problem(node.span(), path, "must be a section; write its keys below it, indented");
        }
        mapping
    }

    fn text(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = node.as_scalar().map(|scalar| scalar.as_str().to_owned());
        if text.is_none() {
            self.problem(node.span(), path, "must be one value");
        }
        text
    }

    fn path(&mut self, node: &Node, path: &str) -> Option<PathBuf> {
        let text = self.text(node, path)?;
        if text.is_empty() || text.contains('\0') {
            self.problem(node.span(), path, "must be a path");
            return None;
        }
        Some(self.directory.join(text))
    }

    fn one_of<T: FromStr<Err = String>>(&mut self, node: &Node, path: &str) -> Option<T> {
        let text = self.text(node, path)?;
        text.parse().map_err(|why: String| self.problem(node.span(), path, why)).ok()
    }

    fn file(&mut self, node: &Node) -> WebFile {
        let mut web = WebFile::default();
        for (key, node) in
            self.keys(node, "", &["tls_server_config", "http_server_config", "basic_auth_users"])
        {
            match key.as_str() {
                "tls_server_config" => web.tls = self.tls(node),
                "http_server_config" => web.headers = self.http(node),
                _ => web.users = self.users(node),
            }
        }
        web
    }

    fn tls(&mut self, node: &Node) -> Option<TlsFiles> {
        const KNOWN: [&str; 11] = [
            "cert_file",
            "key_file",
            "client_auth_type",
            "client_ca_file",
            "client_allowed_sans",
            "min_version",
            "max_version",
            "cipher_suites",
            "curve_preferences",
            "prefer_server_cipher_suites",
            "cert",
        ];
        let here = "tls_server_config";
        let mut tls = TlsFiles {
            cert: PathBuf::new(),
            key: PathBuf::new(),
            client_auth: ClientAuth::None,
            client_ca: None,
            client_sans: Vec::new(),
            min: TlsVersion::Tls12,
            max: TlsVersion::Tls13,
        };
        if is_null(node) {
            return None;
        }
        let before = self.problems.len();
        for (key, value) in self.keys(node, here, &KNOWN) {
            let key = key.as_str();
            let path = join(here, key);
            match key {
                "cert_file" => tls.cert = self.path(value, &path).unwrap_or_default(),
                "key_file" => tls.key = self.path(value, &path).unwrap_or_default(),
                "client_ca_file" => tls.client_ca = self.path(value, &path),
                "client_auth_type" => tls.client_auth = self.one_of(value, &path).unwrap_or_default(),
                "min_version" => tls.min = self.one_of(value, &path).unwrap_or(tls.min),
                "max_version" => tls.max = self.one_of(value, &path).unwrap_or(tls.max),
                "client_allowed_sans" => tls.client_sans = self.list(value, &path),
                _ => self.problem(
                    value.span(),
                    &path,
                    "is not supported: the TLS library's own choice is used; remove the key",
                ),
            }
        }
        if self.problems.len() == before {
            self.complete(node, &tls);
        }
        Some(tls)
    }

    /// What must be there together.
    fn complete(&mut self, node: &Node, tls: &TlsFiles) {
        let here = "tls_server_config";
        for (key, path) in [("cert_file", &tls.cert), ("key_file", &tls.key)] {
            if path.as_os_str().is_empty() {
                self.problem(
                    node.span(),
                    &join(here, key),
                    format!("is missing; for example {key}: server.pem"),
                );
            }
        }
        let (asks, knows) = (tls.client_auth != ClientAuth::None, tls.client_ca.is_some());
        if asks != knows {
            let what = "goes with client_auth_type, VerifyClientCertIfGiven or RequireAndVerifyClientCert; write both or neither";
            self.problem(node.span(), &join(here, "client_ca_file"), what);
        }
        if !asks && !tls.client_sans.is_empty() {
            self.problem(
                node.span(),
                &join(here, "client_allowed_sans"),
                "means nothing while no certificate is asked for; set client_auth_type",
            );
        }
        if tls.min > tls.max {
            self.problem(node.span(), &join(here, "min_version"), "is above max_version; change one");
        }
    }

    fn list(&mut self, node: &Node, path: &str) -> Vec<String> {
        let Some(sequence) = node.as_sequence() else {
            self.problem(node.span(), path, "must be a list; write each below it after a '-'");
            return Vec::new();
        };
        sequence.iter().filter_map(|item| self.text(item, path)).collect()
    }

    fn http(&mut self, node: &Node) -> Vec<(&'static str, String)> {
        let here = "http_server_config";
        let mut headers = Vec::new();
        for (key, value) in self.keys(node, here, &["http2", "headers"]) {
            if key.as_str() == "http2" {
                if value.as_scalar().and_then(MarkedScalarNode::as_bool).is_none() {
                    self.problem(
                        value.span(),
                        "http_server_config.http2",
                        "must be true or false; HTTP/1.1 is spoken in either case",
                    );
                }
                continue;
            }
            for (name, value) in self.keys(value, "http_server_config.headers", &HEADERS) {
                let path = join("http_server_config.headers", name.as_str());
                let Some(text) = self.text(value, &path) else { continue };
                if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                    self.problem(value.span(), &path, "must be printable ASCII");
                } else if let Some(name) = HEADERS.into_iter().find(|known| *known == name.as_str()) {
                    headers.push((name, text));
                }
            }
        }
        headers
    }

    fn users(&mut self, node: &Node) -> BTreeMap<String, String> {
        let here = "basic_auth_users";
        let mut users = BTreeMap::new();
        let Some(mapping) = self.mapping(node, here) else { return users };
        for (name, hash) in mapping.iter() {
            let path = join(here, name.as_str());
            let Some(text) = self.text(hash, &path) else { continue };
            let parts = bcrypt::HashParts::from_str(&text);
            if name.as_str().is_empty() || name.as_str().contains(':') {
                self.problem(name.span(), &path, "is no name of a user: it has a colon, or is empty");
            } else if !parts.as_ref().is_ok_and(|parts| (4..=31).contains(&parts.get_cost())) {
                // Never the text itself: it may be a password.
                self.problem(hash.span(), &path, "is no bcrypt hash; make one with 'htpasswd -nB USER'");
            } else if parts.is_ok_and(|parts| parts.get_cost() > COSTLIEST) {
                self.problem(
                    hash.span(),
                    &path,
                    format!("costs more than {COSTLIEST}; 10 takes a tenth of a second"),
                );
            } else {
                users.insert(name.as_str().to_owned(), text);
            }
        }
        users
    }
}

fn is_null(node: &Node) -> bool {
    node.as_scalar().is_some_and(|scalar| matches!(scalar.as_str(), "" | "~" | "null"))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<WebFile, String> {
        WebFile::parse("w", text, Path::new("/etc/h")).map_err(|problems| problems.to_string())
    }

    /// `htpasswd -nbB -C 4 x password`
    const HASH: &str = "$2y$04$7Y4pCn4U3YyLBwBkOMw0yuSnJvKpBPT5S6ZJ6Ev7DBQx0fJU3qhGa";

    #[test]
    fn the_example_of_the_format_is_read() {
        let text = format!(
            "# as the toolkit documents it\ntls_server_config:\n  cert_file: server.crt\n  key_file: /k/server.key\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans:\n    - prometheus.example\n  \
             min_version: TLS13\nhttp_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n\
             basic_auth_users:\n  alice: {HASH}\n  bob: '{HASH}'\n"
        );
        let web = parse(&text).unwrap();
        let tls = web.tls.unwrap();
        assert_eq!((tls.cert, tls.key), ("/etc/h/server.crt".into(), "/k/server.key".into()));
        assert_eq!((tls.client_auth, tls.client_ca), (ClientAuth::Required, Some("/etc/h/ca.crt".into())));
        assert_eq!((tls.min, tls.max), (TlsVersion::Tls13, TlsVersion::Tls13));
        assert_eq!(tls.client_sans, ["prometheus.example"]);
        assert_eq!(web.users.keys().collect::<Vec<_>>(), ["alice", "bob"]);
        assert_eq!(web.headers, [("X-Frame-Options", "deny".to_owned())]);
        for empty in ["", "\n", "# nothing\n", "---\n", "basic_auth_users:\n"] {
            assert_eq!(parse(empty).unwrap(), WebFile::default(), "{empty:?}");
        }
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        for (text, said) in [
            (
                "tls_server_confg:\n  a: b\n",
                "w: line 1: tls_server_confg: unknown key; did you mean 'tls_server_config'?",
            ),
            (
                "tls_server_config:\n  cert_file: a\n  key_flie: b\n",
                "w: line 3: tls_server_config.key_flie: unknown key; did you mean 'key_file'?",
            ),
            ("tls_server_config:\n  cert_file: a\n", "w: line 2: tls_server_config.key_file: is missing"),
            (
                "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_ca_file: c\n",
                "goes with client_auth_type",
            ),
            (
                "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequireAnyClientCert\n",
                "w: line 4: tls_server_config.client_auth_type: 'RequireAnyClientCert' takes certificates that anybody can make",
            ),
            ("tls_server_config:\n  min_version: TLS10\n", "RFC 8996"),
            (
                "tls_server_config:\n  cipher_suites: [a]\n",
                "w: line 2: tls_server_config.cipher_suites: is not supported",
            ),
            ("basic_auth_users:\n  a: secret\n", "w: line 2: basic_auth_users.a: is no bcrypt hash"),
            ("basic_auth_users: yes\n", "w: line 1: basic_auth_users: must be a section"),
            ("basic_auth_users:\n  a: x\n  a: y\n", "line 3"),
            (
                "http_server_config:\n  headers:\n    X-Other: a\n",
                "w: line 3: http_server_config.headers.X-Other: unknown key",
            ),
            ("a: [\n", "see yaml.org"),
            ("- a\n", "w: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
            assert!(
                error.lines().all(|line| !line.contains("secret")),
                "a password is not repeated: {error}"
            );
        }
        let costly = HASH.replace("$04$", "$31$");
        assert!(parse(&format!("basic_auth_users:\n  a: {costly}\n")).unwrap_err().contains("costs more"));
    }

    #[test]
    fn what_is_nested_deeply_is_refused() {
        for text in [
            "- ".repeat(100_000),
            "? ".repeat(100_000),
            "[".repeat(100_000),
            "a:\n".to_owned() + &" ".repeat(200) + "b: c",
        ] {
            assert!(parse(&text).is_err());
        }
        let mut ladder = String::new();
        for depth in 0..100 {
            ladder += &format!("{}a:\n", " ".repeat(depth));
        }
        assert!(parse(&ladder).is_err());
    }
}
