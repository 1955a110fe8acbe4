//! ARP over Ethernet, as far as one address needs it: probes and announcements (RFC 826, RFC 5227). Pure.

use std::net::Ipv4Addr;

/// A hardware address.
pub(super) type Mac = [u8; 6];

/// EtherType of ARP.
pub(super) const ETHERTYPE: u16 = 0x0806;

const BROADCAST: Mac = [0xff; 6];
const NOBODY: Mac = [0; 6];
const ETHERNET_BYTES: usize = 14;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// `ar_hrd` Ethernet, `ar_pro` IPv4, `ar_hln` 6, `ar_pln` 4.
const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Asks who has the address, without claiming it: the sender's address is none (RFC 5227, 2.1.1).
pub(super) fn probe(own: Mac, ip: Ipv4Addr) -> Vec<u8> {
    frame(REQUEST, own, Ipv4Addr::UNSPECIFIED, NOBODY, ip)
}

/// Tells everybody that the address is here now. Some listen to one form only, so both are sent (RFC 5227, 3).
pub(super) fn announcements(own: Mac, ip: Ipv4Addr) -> [Vec<u8>; 2] {
    [
        frame(REQUEST, own, ip, NOBODY, ip),
        frame(REPLY, own, ip, BROADCAST, ip),
    ]
}

/// Who else has the address, or is about to take it, by this frame.
pub(super) fn claimed_by(frame: &[u8], own: Mac, ip: Ipv4Addr) -> Option<Mac> {
    let (ethernet, arp) = frame.split_at_checked(ETHERNET_BYTES)?;
    if ethernet.get(12..14)? != ETHERTYPE.to_be_bytes() || arp.get(..6)? != HEAD {
        return None;
    }
    let operation = u16::from_be_bytes(arp.get(6..8)?.try_into().ok()?);
    let sender: Mac = arp.get(8..14)?.try_into().ok()?;
    let sender_ip: [u8; 4] = arp.get(14..18)?.try_into().ok()?;
    let target_ip: [u8; 4] = arp.get(24..28)?.try_into().ok()?;
    let has_it = sender_ip == ip.octets();
    let probes_for_it = operation == REQUEST && sender_ip == [0; 4] && target_ip == ip.octets();
    (sender != own && (has_it || probes_for_it)).then_some(sender)
}

fn frame(operation: u16, own: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST);
    frame.extend(own);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend(HEAD);
    frame.extend(operation.to_be_bytes());
    frame.extend(own);
    frame.extend(sender.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 9];
    const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
    const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[test]
    fn frames_are_what_the_rfc_says() {
        let probe = probe(OWN, IP);
        assert_eq!(
            hex::encode(&probe),
            "ffffffffffff020000000001080600010800060400010200000000010000000000000000\
             0000c0000264"
        );
        let [request, reply] = announcements(OWN, IP);
        assert_eq!(
            hex::encode(&request[20..]),
            "0001020000000001c0000264000000000000c0000264"
        );
        assert_eq!(
            hex::encode(&reply[20..]),
            "0002020000000001c0000264ffffffffffffc0000264"
        );
    }

    #[test]
    fn table_of_what_is_heard() {
        let answer = frame(REPLY, OTHER, IP, OWN, Ipv4Addr::UNSPECIFIED);
        let table = [
            ("an answer", answer.clone(), Some(OTHER)),
            (
                "an announcement",
                announcements(OTHER, IP)[0].clone(),
                Some(OTHER),
            ),
            ("another one's probe", probe(OTHER, IP), Some(OTHER)),
            ("the own probe", probe(OWN, IP), None),
            (
                "the own announcement",
                announcements(OWN, IP)[1].clone(),
                None,
            ),
            (
                "somebody asks for it",
                frame(REQUEST, OTHER, NEIGHBOUR, NOBODY, IP),
                None,
            ),
            (
                "of another address",
                announcements(OTHER, NEIGHBOUR)[0].clone(),
                None,
            ),
        ];
        for (what, frame, expected) in table {
            assert_eq!(claimed_by(&frame, OWN, IP), expected, "{what}");
        }
        for length in 0..answer.len() {
            assert_eq!(
                claimed_by(&answer[..length], OWN, IP),
                None,
                "{length} bytes"
            );
        }
        let mut other_protocol = answer;
        other_protocol[13] = 0xdd;
        assert_eq!(claimed_by(&other_protocol, OWN, IP), None);
    }
}
