//! Stage 4: what detection may be told.

/// Detection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DetectConfig {}
