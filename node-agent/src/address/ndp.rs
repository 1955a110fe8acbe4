//! Neighbour discovery over Ethernet, as far as one address needs it: duplicate address detection and unsolicited
//! advertisements (RFC 4861, RFC 4862). Pure.

use std::net::Ipv6Addr;

use super::arp::Mac;

/// EtherType of IPv6.
pub(super) const ETHERTYPE: u16 = 0x86dd;
/// Where the number of the next header stands in a frame.
pub(super) const NEXT_HEADER_AT: u32 = 20;
/// ICMPv6.
pub(super) const ICMPV6: u8 = 58;

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Neighbour discovery never passes a router.
const HOP_LIMIT: u8 = 255;
/// The override flag: caches are to take the new hardware address.
const OVERRIDE: [u8; 4] = [0x20, 0, 0, 0];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Asks who has the address, from no address: duplicate address detection.
pub(super) fn probe(own: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let octets = ip.octets();
    let last = [octets[13], octets[14], octets[15]];
    // The solicited-node multicast group of the address.
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&last);
    let mut body = vec![0; 4];
    body.extend(octets);
    let to = [0x33, 0x33, 0xff, last[0], last[1], last[2]];
    frame(
        to,
        own,
        Ipv6Addr::UNSPECIFIED,
        group.into(),
        SOLICITATION,
        &body,
    )
}

/// Tells everybody that the address is here now.
pub(super) fn announcement(own: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let mut body = OVERRIDE.to_vec();
    body.extend(ip.octets());
    // Option: target link-layer address, one unit of 8 bytes.
    body.extend([2, 1]);
    body.extend(own);
    let to = [0x33, 0x33, 0, 0, 0, 1];
    frame(to, own, ip, ALL_NODES, ADVERTISEMENT, &body)
}

/// Who else has the address, or is about to take it, by this frame.
pub(super) fn claimed_by(frame: &[u8], own: Mac, ip: Ipv6Addr) -> Option<Mac> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET_BYTES)?;
    if ethernet.get(12..14)? != ETHERTYPE.to_be_bytes() {
        return None;
    }
    let (header, icmp) = packet.split_at_checked(IPV6_BYTES)?;
    if *header.get(6)? != ICMPV6 || *header.get(7)? != HOP_LIMIT {
        return None;
    }
    let from: Mac = ethernet.get(6..12)?.try_into().ok()?;
    let target: [u8; 16] = icmp.get(8..24)?.try_into().ok()?;
    if from == own || target != ip.octets() {
        return None;
    }
    match *icmp.first()? {
        ADVERTISEMENT => Some(from),
        SOLICITATION if header.get(8..24)? == [0; 16] => Some(from),
        _ => None,
    }
}

fn frame(to: Mac, own: Mac, from: Ipv6Addr, group: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    // Type, code, checksum.
    let mut icmp = vec![kind, 0, 0, 0];
    icmp.extend(body);
    let length = u16::try_from(icmp.len()).unwrap_or(u16::MAX);
    let sum = checksum(from, group, length, &icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::with_capacity(ETHERNET_BYTES + IPV6_BYTES + icmp.len());
    frame.extend(to);
    frame.extend(own);
    frame.extend(ETHERTYPE.to_be_bytes());
    // Version 6, no traffic class, no flow.
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(group.octets());
    frame.extend(icmp);
    frame
}

/// Over the pseudo-header (RFC 8200, 8.1) and the message with its checksum field 0.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, length: u16, icmp: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| {
                let low = pair.get(1).copied().unwrap_or(0);
                u32::from(u16::from_be_bytes([pair[0], low]))
            })
            .sum()
    };
    let mut sum = words(&from.octets())
        + words(&to.octets())
        + u32::from(length)
        + u32::from(ICMPV6)
        + words(icmp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 9];

    fn ip() -> Ipv6Addr {
        "2001:db8::12:3456".parse().unwrap()
    }

    /// A receiver sums everything, the checksum included, to 0.
    fn assert_sums_up(frame: &[u8]) {
        let part = |from: usize| -> [u8; 16] { frame[from..from + 16].try_into().unwrap() };
        let icmp = &frame[ETHERNET_BYTES + IPV6_BYTES..];
        let length = u16::try_from(icmp.len()).unwrap();
        assert_eq!(checksum(part(22).into(), part(38).into(), length, icmp), 0);
        assert_eq!(frame[18..20], length.to_be_bytes());
    }

    #[test]
    fn frames_are_what_the_rfcs_say() {
        let probe = probe(OWN, ip());
        assert_eq!(hex::encode(&probe[..6]), "3333ff123456");
        assert_eq!(
            hex::encode(&probe[38..54]),
            "ff0200000000000000000001ff123456"
        );
        assert_eq!(probe[22..38], [0; 16]);
        assert_eq!((probe[54], probe.len()), (SOLICITATION, 54 + 24));
        assert_sums_up(&probe);
        let announcement = announcement(OWN, ip());
        assert_eq!(hex::encode(&announcement[..6]), "333300000001");
        assert_eq!(announcement[22..38], ip().octets());
        assert_eq!(hex::encode(&announcement[58..62]), "20000000");
        assert_eq!(hex::encode(&announcement[78..]), "0201020000000001");
        assert_sums_up(&announcement);
    }

    #[test]
    fn table_of_what_is_heard() {
        let other: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let defence = announcement(OTHER, ip());
        let mut asks = probe(OTHER, ip());
        asks[37] = 7;
        let mut routed = defence.clone();
        routed[21] = 64;
        let table = [
            ("an advertisement", defence.clone(), Some(OTHER)),
            ("another one's probe", probe(OTHER, ip()), Some(OTHER)),
            ("the own probe", probe(OWN, ip()), None),
            ("the own announcement", announcement(OWN, ip()), None),
            ("somebody asks for it", asks, None),
            ("of another address", announcement(OTHER, other), None),
            ("over a router", routed, None),
        ];
        for (what, frame, expected) in table {
            assert_eq!(claimed_by(&frame, OWN, ip()), expected, "{what}");
        }
        for length in 0..78 {
            assert_eq!(
                claimed_by(&defence[..length], OWN, ip()),
                None,
                "{length} bytes"
            );
        }
    }
}
