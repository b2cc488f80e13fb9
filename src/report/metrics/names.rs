//! Stage 5 of 5, report: every metric's name, type and help, once. Nothing else in the project spells one.
//!
//! No logic. The contract's table and the series added to it; a name here is never renamed.

/// A metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desc {
    /// Its name, with the suffix its type asks for.
    pub name: &'static str,
    /// One sentence for whoever finds it on a dashboard.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
}

/// The type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $constant:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Desc = Desc { name: $name, help: $help, kind: Kind::$kind };
        )*
        /// Every family, in the order of exposition.
        pub const ALL: &[Desc] = &[$($constant),*];
    };
}

metrics! {
    CAPTURE_FRAMES = Counter "halfopen_capture_frames_total" "Frames captured.";
    CAPTURE_BYTES = Counter "halfopen_capture_bytes_total" "Bytes of the captured frames, by their length on the wire.";
    CAPTURE_DROPS = Counter "halfopen_capture_drops_total" "Frames lost before the sensor, in the kernel's buffer or in the interface.";
    CAPTURE_REOPENED = Counter "halfopen_capture_reopened_total" "Times the capture was opened again after a failure.";
    CAPTURE_UP = Gauge "halfopen_capture_up" "1 while the interface is being captured.";
    FRAMES = Counter "halfopen_frames_total" "Frames by what became of them; the three results add up to all frames.";
    DECODE_ERRORS = Counter "halfopen_decode_errors_total" "Frames not decoded, by reason.";
    LATER_FRAGMENTS = Counter "halfopen_later_fragments_total" "Fragments behind the first of a TCP packet, in which no TCP header can be.";
    SEGMENTS = Counter "halfopen_segments_total" "TCP segments by what they are to a handshake.";
    HANDSHAKES_OPENED = Counter "halfopen_handshakes_opened_total" "Attempts that entered the half-open table.";
    HANDSHAKES_CLOSED = Counter "halfopen_handshakes_closed_total" "Attempts that left the half-open table, by outcome.";
    HANDSHAKES_NOT_TAKEN = Counter "halfopen_handshakes_not_taken_total" "Completed handshakes whose server went on repeating its SYN-ACK: it did not take the acknowledgement.";
    HANDSHAKES_UNTRACKED = Counter "halfopen_handshakes_untracked_total" "SYNs that the full table could only count.";
    SYN_RETRANSMISSIONS = Counter "halfopen_syn_retransmissions_total" "SYNs seen again.";
    SYN_ACK_RETRANSMISSIONS = Counter "halfopen_syn_ack_retransmissions_total" "SYN-ACKs seen again.";
    MISMATCHED_SEGMENTS = Counter "halfopen_mismatched_segments_total" "Acknowledgements and resets whose numbers fit no open attempt of their connection.";
    SIMULTANEOUS_OPENS = Counter "halfopen_simultaneous_opens_total" "SYNs that crossed another SYN on the same connection.";
    ODDITIES = Counter "halfopen_handshake_oddities_total" "Exchanges that RFC 9293 and RFC 5961 describe and no handshake needs, by kind.";
    ODDITIES_UNTOLD = Counter "halfopen_handshake_oddities_untold_total" "Oddities counted and not told, so that nobody can fill the journal.";
    EMBRYONIC = Gauge "halfopen_embryonic_connections" "Handshakes begun and not finished, by state.";
    EMBRYONIC_LIMIT = Gauge "halfopen_embryonic_connections_limit" "Most embryonic connections the half-open table holds.";
    SYN_ACK_LATENCY = Histogram "halfopen_syn_ack_latency_seconds" "Time from SYN to SYN-ACK.";
    HANDSHAKE_DURATION = Histogram "halfopen_handshake_duration_seconds" "Time from SYN to the acknowledgement that completes.";
    TABLE_EMERGENCY = Gauge "halfopen_table_emergency" "1 while the half-open table is nearly full and uses the short timeout.";
    TABLE_EMERGENCIES = Counter "halfopen_table_emergencies_total" "Times the short timeout came into force.";
    TABLE_SAMPLED = Counter "halfopen_table_sampled_total" "Entries that stand for more than one attempt because the table was full.";
    TABLE_BYTES = Gauge "halfopen_table_bytes" "Memory of the half-open table and its timers, reckoned.";
    TABLE_EXPIRY_LAG = Gauge "halfopen_table_expiry_lag_seconds" "How far expiry is behind network time.";
    SERVER_EMBRYONIC = Gauge "halfopen_server_embryonic_connections" "Handshakes begun and not finished, by server and state.";
    SERVER_BACKLOG_OCCUPANCY = Gauge "halfopen_server_backlog_occupancy" "Entries the server's own SYN queue is reckoned to hold.";
    SERVER_BACKLOG_LIMIT = Gauge "halfopen_server_backlog_limit" "Entries that fit into the server's SYN queue: one more than the configured backlog on Linux, or learned; absent while unknown.";
    SERVER_BACKLOG_TIME_TO_FULL = Gauge "halfopen_server_backlog_time_to_full_seconds" "Seconds until the server's SYN queue is full if entries go on coming as they do, 0 while it is; absent while it does not fill within two minutes or its size is unknown.";
    SERVER_ATTEMPTS = Counter "halfopen_server_attempts_total" "Attempts on the server, those the full table could only count included.";
    SERVER_COMPLETED = Counter "halfopen_server_completed_total" "Attempts on the server that were completed.";
    SERVER_UNRESOLVED = Counter "halfopen_server_unresolved_total" "Attempts on the server that nobody completed, refused or reset within the grace age.";
    SERVER_DISTINCT_SOURCES = Gauge "halfopen_server_distinct_sources" "Sources of unresolved attempts in the last minute, estimated.";
    SERVER_MODE = Gauge "halfopen_server_mode" "1 for the way the server treats SYNs now.";
    SERVER_STATISTIC = Gauge "halfopen_server_statistic" "The flood statistic of the server: log-likelihood ratio of a flood against its baseline, summed over all its possible beginnings.";
    SERVER_STATISTIC_THRESHOLD = Gauge "halfopen_server_statistic_threshold" "What the flood statistic is held against; at or above it a flood is raised.";
    BACKLOG_NOTES_DROPPED = Counter "halfopen_backlog_notes_dropped_total" "Events that the model of a server's SYN queue did not hear of, because too many came within half a second; others stood for them.";
    INCIDENTS = Counter "halfopen_incidents_total" "Incidents raised, by kind.";
    INCIDENTS_ACTIVE = Gauge "halfopen_incidents_active" "Incidents running, by kind.";
    INCIDENT_ACTIVE = Gauge "halfopen_incident_active" "Incidents running, by what they are about and kind.";
    INCIDENT_SEVERITY = Gauge "halfopen_incident_severity" "The gravest severity of the incidents running, by what they are about and kind: 1 info, 2 warning, 3 critical, 0 none.";
    HALF_OPEN_DISCOVERED = Counter "halfopen_half_open_discovered_total" "Half-open connections (RFC 9293 section 3.5.1) discovered, by how.";
    HALF_OPEN_SUSPECTED = Gauge "halfopen_half_open_suspected" "Connections suspected to be half-open now.";
    HALF_OPEN_SUSPECTED_LIMIT = Gauge "halfopen_half_open_suspected_limit" "Most connections counted as suspected at once.";
    HALF_OPEN_SUSPICIONS = Counter "halfopen_half_open_suspicions_total" "Connections suspected to be half-open so far.";
    HALF_OPEN_UNTOLD = Counter "halfopen_half_open_untold_total" "Discoveries and suspicions counted and not told, so that nobody can fill the journal.";
    ESTABLISHED = Gauge "halfopen_established_connections" "Connections followed after their handshake.";
    ESTABLISHED_LIMIT = Gauge "halfopen_established_connections_limit" "Most connections followed after their handshake.";
    ESTABLISHED_EVICTED = Counter "halfopen_established_evicted_total" "Connections no longer followed because another needed the place.";
    ESTABLISHED_BYTES = Gauge "halfopen_established_bytes" "Memory for connections followed after their handshake, reckoned.";
    BACKSCATTER = Counter "halfopen_backscatter_total" "Answers to SYNs that nobody here sent.";
    JOURNAL_WRITTEN = Counter "halfopen_journal_written_total" "Lines written to the journal.";
    JOURNAL_ERRORS = Counter "halfopen_journal_errors_total" "Lines of the journal lost because they could not be written.";
    JOURNAL_DROPPED = Counter "halfopen_journal_dropped_total" "Lines of the journal lost because its writer was too far behind.";
    EVIDENCE_FRAMES = Counter "halfopen_evidence_frames_total" "Frames kept as evidence of incidents.";
    EVIDENCE_LEFT_OUT = Counter "halfopen_evidence_left_out_total" "Frames meant as evidence and not kept, by why.";
    EVIDENCE_ERRORS = Counter "halfopen_evidence_errors_total" "Times a file of evidence could not be written.";
    EVIDENCE_BYTES = Gauge "halfopen_evidence_bytes" "Evidence in memory.";
    CONFINED = Gauge "halfopen_confinement_active" "1 where a layer of the process's confinement is in force, by layer; 0 where it is not.";
    MEMORY_LIMIT = Gauge "halfopen_memory_limit_bytes" "The configured ceiling for the memory of the process; 0 where there is none, as in a replay.";
    MEMORY_RECKONED = Gauge "halfopen_memory_reckoned_bytes" "Most memory by the caps of the configuration, reckoned at the start.";
    CAPTURE_RESTARTS = Counter "halfopen_capture_restarts_total" "Captures that failed and were started again by the supervisor.";
    STATE_WRITTEN = Counter "halfopen_state_written_total" "Times the state file was written.";
    STATE_ERRORS = Counter "halfopen_state_errors_total" "Times the state file could not be written.";
    STATE_SET_ASIDE = Counter "halfopen_state_set_aside_total" "State files found damaged or foreign at the start and set aside.";
    STATE_BYTES = Gauge "halfopen_state_bytes" "Size of the state file as last written.";
    NETWORK_TIMESTAMP = Gauge "halfopen_network_timestamp_seconds" "Network time: the stamp of the latest packet or idle tick; 0 before the first.";
    TIME_JUMPS = Counter "halfopen_time_jumps_total" "Times a packet's stamp lay more than a minute behind network time.";
    HTTP_REFUSED = Counter "halfopen_http_connections_refused_total" "Connections closed at once because every other was being answered.";
    HTTP_EVICTED = Counter "halfopen_http_connections_evicted_total" "Idle connections closed to make room for new ones.";
    BUILD_INFO = Gauge "halfopen_build_info" "1, with what was built.";
}
