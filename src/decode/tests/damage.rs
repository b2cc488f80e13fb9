//! Whatever arrives: it ends, and both paths agree.

use super::encapsulations::encapsulations;
use super::*;
use proptest::prelude::*;

const LINKS: [LinkType; 12] = [
    LinkType::NULL,
    LinkType::ETHERNET,
    LinkType::PPP,
    LinkType::PPP_HDLC,
    LinkType::PPP_ETHER,
    LinkType::RAW,
    LinkType::C_HDLC,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::LINUX_SLL2,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_on_any_link_end(data in prop::collection::vec(any::<u8>(), 0..200), orig_len in any::<u32>()) {
        for link in LINKS {
            let _ = decode(&Frame { ts: TS, link, orig_len, data: &data });
        }
    }

    /// A valid frame with a few bytes changed, cut, with any length on the wire: it ends, and where the plain path takes it, the
    /// long one comes to the same.
    #[test]
    fn damaged_frames_end_and_both_paths_agree(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
        orig_len in 0u32..70_000,
    ) {
        let all = encapsulations();
        let (_, link, mut data, _) = all[which.index(all.len())].clone();
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        if !whole {
            data.truncate(cut.index(data.len()));
        }
        let frame = Frame { ts: TS, link, orig_len, data: &data };
        let long = walk(&frame);
        prop_assert_eq!(decode(&frame), long);
        if let Decoded::Tcp(segment) = long {
            prop_assert_eq!(segment.kind, SegmentKind::of(segment.flags));
            prop_assert!(segment.options_len <= 40);
        }
    }

    /// Every field of the plain path, against the view of another crate.
    #[test]
    fn plain_frames_read_as_pnet_reads_them(header in prop::array::uniform20(any::<u8>()), addresses in any::<[u8; 8]>(), ttl: u8, rest in 0usize..1400) {
        use pnet_packet::tcp::TcpPacket;
        let mut data = on_ethernet(6, &cat(&[&header, &vec![0; rest]]));
        data[22] = ttl;
        data[26..34].copy_from_slice(&addresses);
        let view = TcpPacket::new(&header).unwrap();
        let segment = tcp(decoded(LinkType::ETHERNET, &data));
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        prop_assert_eq!(segment.src, Endpoint::new(IpAddr::from([s0, s1, s2, s3]), view.get_source()));
        prop_assert_eq!(segment.dst, Endpoint::new(IpAddr::from([d0, d1, d2, d3]), view.get_destination()));
        prop_assert_eq!(segment.seq.0, view.get_sequence());
        prop_assert_eq!(segment.ack.0, view.get_acknowledgement());
        prop_assert_eq!(segment.flags.0, view.get_flags());
        prop_assert_eq!(segment.window, view.get_window());
        prop_assert_eq!(segment.ttl, ttl);
        let offset = usize::from(view.get_data_offset()) * 4;
        let payload = if offset < 20 { 0 } else { (20 + rest).saturating_sub(offset) };
        prop_assert_eq!(usize::from(segment.payload_len), payload);
    }
}
