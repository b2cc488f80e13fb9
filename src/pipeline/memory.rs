//! The sensor's memory as bytes: what is written to the state file and read from it. Decides nothing; touches no file.

use super::shared::{Sensor, lock};
use crate::detect::memory::Memory;

impl Sensor {
    /// What a restart must not lose, as JSON. Holds the detector's lock while numbers are copied, not while they become text.
    pub fn remembered(&self) -> Vec<u8> {
        let memory = lock(&self.judge).detector.memory();
        // Plain structures with text as keys: nothing of them can be refused.
        serde_json::to_vec(&memory).unwrap_or_default()
    }

    /// Goes on where the process before ended; to be called before the first source runs. How many baselines and incidents came back.
    ///
    /// # Errors
    /// The bytes are not what [`remember`](Self::remember) gave; nothing is changed then.
    pub fn recall(&self, bytes: &[u8]) -> Result<(usize, usize), String> {
        let memory: Memory = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(lock(&self.judge).detector.recall(&memory))
    }
}
