//! Stage 5 of 5, report: a file of lines that is full at a bound, then set aside; at most so many of these are kept.
//!
//! Knows nothing of what the lines say. May touch the file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Lines in `path`; older ones in `path.1`, `path.2` and so on, the latest first.
///
/// Holds `(keep + 1) * max_bytes` at most, but for a line longer than `max_bytes`, which has a file of its own.
#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Its bytes: whole lines.
    len: u64,
    /// Device and inode: what `path` must still be.
    identity: (u64, u64),
}

impl RotatedFile {
    /// Nothing is opened yet.
    pub const fn new(path: PathBuf, max_bytes: u64, keep: u32) -> Self {
        Self { path, max_bytes, keep, open: None }
    }

    /// Opens the file where it is not open, and creates it where it does not exist.
    ///
    /// # Errors
    /// As the file system has it; also that it is no regular file, which could block for ever.
    pub fn open(&mut self) -> io::Result<()> {
        self.opened().map(|_| ())
    }

    /// Appends a line, which ends with a newline: whole, or not at all.
    ///
    /// # Errors
    /// As the file system has it. The next line is tried anew.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let result = self.try_write(line);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        let len = self.opened()?.len;
        if len > 0 && len.saturating_add(line.len() as u64) > self.max_bytes {
            self.open = None;
            set_aside(&self.path, self.keep)?;
        }
        append(self.opened()?, line)
    }

    /// The file as it is now, opened again where somebody deleted or renamed it.
    fn opened(&mut self) -> io::Result<&mut Open> {
        let there = fs::metadata(&self.path).ok();
        let open = self
            .open
            .take()
            .filter(|open| there.as_ref().is_some_and(|found| open.identity == (found.dev(), found.ino())));
        let open = match (open, there) {
            // Somebody may have emptied it meanwhile.
            (Some(open), Some(found)) => Open { len: found.len(), ..open },
            (_, Some(found)) if !found.is_file() => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
            }
            _ => Open::at(&self.path)?,
        };
        Ok(self.open.insert(open))
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let found = file.metadata()?;
        let mut len = found.len();
        // A process that was killed may have left half a line; it does not take the next one with it.
        if len > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != [b'\n'] {
                file.write_all(b"\n")?;
                len += 1;
            }
        }
        Ok(Self { file, len, identity: (found.dev(), found.ino()) })
    }
}

/// Appends bytes; where that fails half-way, what was there before is all there is.
fn append(open: &mut Open, line: &[u8]) -> io::Result<()> {
    let written = open.file.write_all(line);
    if written.is_err() {
        // Where even this fails, the half line is ended when the file is opened next.
        let _ = open.file.set_len(open.len);
    }
    written
}

/// `path` becomes `path.1`, that one `path.2`; the oldest goes.
fn set_aside(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    // Over the oldest goes the next: rename(2) replaces.
    for number in (1..keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}
