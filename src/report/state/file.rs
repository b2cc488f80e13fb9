//! Stage 5 of 5, report: one file that is either the old one or the new one, never half of either, and known for whose it is.
//!
//! Knows nothing of what its bytes mean. Touches the file system; reads the wall clock to tell how old a file is.

use crate::os_error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a file of ours begins with: a name, the version of what follows, its checksum and length, and when it was written.
const MAGIC: &str = "halfopen-state";
const VERSION: &str = "1";

/// Most bytes that are read: every key there may be, twice over.
const LARGEST: u64 = 64 << 20;

/// The state file.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
}

/// What was found in its place.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: a first start.
    Nothing,
    /// State, so old.
    State(Vec<u8>, Duration),
    /// A file that cannot be used: why. It is still there.
    Unusable(String),
}

impl StateFile {
    /// Nothing is opened yet.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces it, atomically: written beside it, brought to the disk, renamed over it, and the directory brought to the disk too.
    /// The bytes written.
    ///
    /// # Errors
    /// As the file system has it; the file that was there is still there then.
    pub fn write(&self, bytes: &[u8]) -> io::Result<u64> {
        let beside = self.beside(".new");
        let result = self.try_write(&beside, bytes);
        if result.is_err() {
            // Half a file takes room from whoever filled the disk.
            let _ = fs::remove_file(&beside);
        }
        result
    }

    fn try_write(&self, beside: &Path, bytes: &[u8]) -> io::Result<u64> {
        // It says who talks to the servers: for its owner only.
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
        let header =
            format!("{MAGIC} {VERSION} {:08x} {} {}\n", checksum(bytes), bytes.len(), now().as_secs());
        out.write_all(header.as_bytes())?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(beside, &self.path)?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok((header.len() + bytes.len()) as u64)
    }

    /// Reads it.
    pub fn read(&self) -> Found {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return Found::Unusable(os_error::unreadable(&error)),
        };
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Found::Unusable("is no regular file of at most 64 MiB".to_owned());
        }
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
        match read {
            Ok(_) => examine(&text),
            Err(error) => Found::Unusable(os_error::unreadable(&error)),
        }
    }

    /// Renames a file that cannot be used, over an older one that could not; its new name.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.beside(".unusable");
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }
}

/// Of the bytes of a file: whose it is, whether it is whole, and how old.
pub fn examine(file: &[u8]) -> Found {
    let unusable = |why: &str| Found::Unusable(why.to_owned());
    let header =
        file.iter().take(200).position(|byte| *byte == b'\n').and_then(|end| file.split_at_checked(end));
    let Some((header, rest)) = header else { return unusable("is not a state file of halfopen") };
    let header = String::from_utf8_lossy(header);
    let fields: Vec<&str> = header.split(' ').collect();
    let [MAGIC, version, sum, length, written] = fields[..] else {
        return unusable("is not a state file of halfopen");
    };
    if version != VERSION {
        return Found::Unusable(format!("is of version '{}', and this is {VERSION}", version.escape_debug()));
    }
    let body = rest.get(1..).unwrap_or_default();
    if length.parse() != Ok(body.len()) {
        return unusable("is not as long as it says: it was cut off, or added to");
    }
    if u32::from_str_radix(sum, 16) != Ok(checksum(body)) {
        return unusable("does not have the checksum it says: it was changed, or its disk is failing");
    }
    let Ok(written) = written.parse() else { return unusable("does not say when it was written") };
    // From the future it is as fresh as can be: a clock was set back meanwhile.
    Found::State(body.to_vec(), now().saturating_sub(Duration::from_secs(written)))
}

/// CRC-32: against accidents. Who may write the file may write its checksum.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    sum.sum()
}

/// Since 1970.
#[allow(clippy::disallowed_methods)] // how old a file is, is about this machine, not about the network
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
