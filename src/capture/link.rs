//! Stage 1 of 5, capture: link types by number, by libpcap's names, and which of them decode follows.
//!
//! A LINKTYPE is what files hold; a DLT is what one system's libpcap calls the same. They differ for few values
//! (<https://www.tcpdump.org/linktypes.html>). May not look into a frame.

use super::LinkType;

/// `DLT_RAW` where it is 12 (everywhere but OpenBSD); some programs write it into files, where 101 belongs.
const DLT_RAW: u16 = 12;
/// `DLT_RAW` on OpenBSD, written into files likewise.
const DLT_RAW_OPENBSD: u16 = 14;

impl LinkType {
    /// Every link type that decode follows.
    pub const DECODED: [Self; 12] = [
        Self::NULL,
        Self::ETHERNET,
        Self::PPP,
        Self::PPP_HDLC,
        Self::PPP_ETHER,
        Self::RAW,
        Self::C_HDLC,
        Self::LOOP,
        Self::LINUX_SLL,
        Self::IPV4,
        Self::IPV6,
        Self::LINUX_SLL2,
    ];

    /// From the number in a capture file, or a DLT of libpcap. What does not fit 16 bits becomes 65535, which nobody has.
    pub fn from_number(number: u32) -> Self {
        match u16::try_from(number) {
            Ok(DLT_RAW | DLT_RAW_OPENBSD) => Self::RAW,
            Ok(number) => Self(number),
            Err(_) => Self(u16::MAX),
        }
    }

    /// Whether decode follows it; frames of others are counted, never looked into.
    pub fn is_decoded(self) -> bool {
        Self::DECODED.contains(&self)
    }

    /// libpcap's name for it, such as `EN10MB`; `LINKTYPE_n` where it has none.
    pub fn name(self) -> String {
        self.to_pcap().get_name().unwrap_or_else(|_| format!("LINKTYPE_{}", self.0))
    }

    /// Number and name, or the number alone where there is no name.
    pub(super) fn described(self) -> String {
        match self.to_pcap().get_name() {
            Ok(name) => format!("{} ({name})", self.0),
            Err(_) => self.0.to_string(),
        }
    }

    /// The same as libpcap on this system numbers it.
    pub(super) fn to_pcap(self) -> pcap::Linktype {
        pcap::Linktype(if self == Self::RAW { i32::from(DLT_RAW) } else { i32::from(self.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as <https://www.tcpdump.org/linktypes.html> lists them (the DLT_ column).
    #[test]
    fn names_are_those_of_the_registry() {
        let table = [
            (0, "NULL"),
            (1, "EN10MB"),
            (9, "PPP"),
            (10, "FDDI"),
            (50, "PPP_SERIAL"),
            (51, "PPP_ETHER"),
            (101, "RAW"),
            (104, "C_HDLC"),
            (108, "LOOP"),
            (113, "LINUX_SLL"),
            (228, "IPV4"),
            (229, "IPV6"),
            (276, "LINUX_SLL2"),
            (65_000, "LINKTYPE_65000"),
        ];
        for (number, name) in table {
            assert_eq!(LinkType::from_number(number).name(), name, "{number}");
        }
    }

    #[test]
    fn raw_ip_has_three_numbers() {
        for number in [12, 14, 101] {
            assert_eq!(LinkType::from_number(number), LinkType::RAW);
        }
    }

    #[test]
    fn a_number_beyond_16_bits_is_not_mistaken_for_a_known_one() {
        assert!(!LinkType::from_number(0x0001_0001).is_decoded());
    }
}
