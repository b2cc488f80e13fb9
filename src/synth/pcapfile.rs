//! Capture files with stamps in nanoseconds, written frame by frame.

use crate::capture::LinkType;
use crate::time::Timestamp;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The longest frame a file may hold; libpcap's own default.
const SNAPLEN: u32 = 262_144;

/// Writes the classic format with its nanosecond magic number (draft-ietf-opsawg-pcap), little-endian.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    out: W,
}

impl PcapWriter<BufWriter<File>> {
    /// A file of Ethernet frames; one that is there already is replaced.
    ///
    /// # Errors
    /// As the file system has it.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::new(BufWriter::with_capacity(1 << 20, File::create(path)?), LinkType::ETHERNET)
    }
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// As the writer has it.
    pub fn new(mut out: W, link: LinkType) -> io::Result<Self> {
        out.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        out.write_all(&2_u16.to_le_bytes())?;
        out.write_all(&4_u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&SNAPLEN.to_le_bytes())?;
        out.write_all(&u32::from(link.0).to_le_bytes())?;
        Ok(Self { out })
    }

    /// Appends one frame, whole.
    ///
    /// # Errors
    /// As the writer has it; also a stamp before 1970 or after 2106, which the format cannot hold.
    pub fn write(&mut self, at: Timestamp, frame: &[u8]) -> io::Result<()> {
        let nanos = at.as_nanos();
        let seconds = u32::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{at} is no stamp of this format"))
        })?;
        let length = frame.len() as u32;
        let mut header = [0; 16];
        header[..4].copy_from_slice(&seconds.to_le_bytes());
        header[4..8].copy_from_slice(&(nanos.rem_euclid(1_000_000_000) as u32).to_le_bytes());
        header[8..12].copy_from_slice(&length.to_le_bytes());
        header[12..].copy_from_slice(&length.to_le_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(frame)
    }

    /// Writes out what is buffered and gives the writer back.
    ///
    /// # Errors
    /// As the writer has it.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
