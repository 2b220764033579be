//! What kind of address a connection would go to.
//!
//! What is not known to be public is not public. An IPv6 address that stands for an IPv4 address is what that address is.
//! (RFC 6890 and the registries of special-purpose addresses that it made.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who can be reached at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anybody on the internet.
    Public,
    /// This machine, or the operator's network: private use, shared (100.64.0.0/10), unique local, loopback.
    Private,
    /// Nobody that a request is ever for: link-local (where clouds keep their metadata), multicast, unspecified,
    /// documentation, benchmarking, tunnels, reserved.
    Nobody,
}

/// Networks of IPv4 by their first address and the length of their prefix. What is in none of them is public.
const V4: [([u8; 4], u32, Reach); 19] = [
    ([0, 0, 0, 0], 8, Reach::Nobody),
    ([10, 0, 0, 0], 8, Reach::Private),
    ([100, 64, 0, 0], 10, Reach::Private),
    // The metadata of one cloud, in the range that is shared elsewhere.
    ([100, 100, 100, 200], 32, Reach::Nobody),
    ([127, 0, 0, 0], 8, Reach::Private),
    // The host of another cloud's machines.
    ([168, 63, 129, 16], 32, Reach::Nobody),
    ([169, 254, 0, 0], 16, Reach::Nobody),
    ([172, 16, 0, 0], 12, Reach::Private),
    ([192, 0, 0, 0], 24, Reach::Nobody),
    ([192, 0, 2, 0], 24, Reach::Nobody),
    ([192, 31, 196, 0], 24, Reach::Nobody),
    ([192, 52, 193, 0], 24, Reach::Nobody),
    ([192, 88, 99, 0], 24, Reach::Nobody),
    ([192, 168, 0, 0], 16, Reach::Private),
    ([198, 18, 0, 0], 15, Reach::Nobody),
    ([198, 51, 100, 0], 24, Reach::Nobody),
    ([203, 0, 113, 0], 24, Reach::Nobody),
    // Multicast, reserved, broadcast.
    ([224, 0, 0, 0], 4, Reach::Nobody),
    ([240, 0, 0, 0], 4, Reach::Nobody),
];

/// Networks of IPv6. What is in none of them is nobody's: public addresses begin with 2000::/3.
const V6: [(Ipv6Addr, u32, Reach); 8] = [
    (Ipv6Addr::LOCALHOST, 128, Reach::Private),
    (v6(0xfc00, 0, 0), 7, Reach::Private),
    // The metadata of one cloud, in the range of the unique local ones.
    (
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        128,
        Reach::Nobody,
    ),
    (v6(0x2000, 0, 0), 3, Reach::Public),
    // Protocols, among them Teredo, benchmarking and identifiers that are no addresses.
    (v6(0x2001, 0, 0), 23, Reach::Nobody),
    (v6(0x2001, 0xdb8, 0), 32, Reach::Nobody),
    // 6to4.
    (v6(0x2002, 0, 0), 16, Reach::Nobody),
    (v6(0x3fff, 0, 0), 20, Reach::Nobody),
];

/// IPv4 within IPv6, where a socket of both kinds sees them: ::ffff:0:0/96.
const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
/// IPv4 as a network without it reaches it, through NAT64: 64:ff9b::/96.
const TRANSLATED: Ipv6Addr = v6(0x64, 0xff9b, 0);
const EMBEDDING_PREFIX: u32 = 96;

const fn v6(first: u16, second: u16, third: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)
}

impl Reach {
    /// Of the narrowest network that the address is in.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(address) => Self::of_v4(address),
                None => Self::of_v6(address),
            },
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let (bits, width) = (u128::from(u32::from(address)), Ipv4Addr::BITS);
        let networks = V4.map(|(network, prefix, reach)| {
            let network = u32::from(Ipv4Addr::from(network));
            (u128::from(network), prefix, reach)
        });
        narrowest(bits, width, &networks).unwrap_or(Self::Public)
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let networks = V6.map(|(network, prefix, reach)| (u128::from(network), prefix, reach));
        narrowest(u128::from(address), Ipv6Addr::BITS, &networks).unwrap_or(Self::Nobody)
    }
}

fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let embeds = |network: Ipv6Addr| {
        let (address, network) = (u128::from(address), u128::from(network));
        is_in(address, network, EMBEDDING_PREFIX, Ipv6Addr::BITS)
    };
    (embeds(MAPPED) || embeds(TRANSLATED)).then(|| Ipv4Addr::new(a, b, c, d))
}

fn narrowest(address: u128, width: u32, networks: &[(u128, u32, Reach)]) -> Option<Reach> {
    networks
        .iter()
        .filter(|(network, prefix, _)| is_in(address, *network, *prefix, width))
        .max_by_key(|(_, prefix, _)| *prefix)
        .map(|(_, _, reach)| *reach)
}

/// No prefix here is empty, so the shift is less than the width.
const fn is_in(address: u128, network: u128, prefix: u32, width: u32) -> bool {
    let rest = width - prefix;
    address >> rest == network >> rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_reach(addresses: &[&str], expected: Reach) {
        for address in addresses {
            assert_eq!(Reach::of(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        assert_reach(
            &[
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "168.63.129.15",
                "169.253.255.255",
                "172.15.255.255",
                "172.32.0.0",
                "192.167.255.255",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "2001:200::1",
                "2606:4700:4700::1111",
                "2a00:1450:4001::1",
                "::ffff:1.1.1.1",
                "64:ff9b::101:101",
            ],
            Reach::Public,
        );
    }

    #[test]
    fn addresses_of_the_operator_s_network_are_private() {
        assert_reach(
            &[
                "10.0.0.0",
                "10.255.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "127.0.0.1",
                "127.255.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.1",
                "::1",
                "fc00::",
                "fdff:ffff::1",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "64:ff9b::7f00:1",
                "64:ff9b::c0a8:1",
            ],
            Reach::Private,
        );
    }

    #[test]
    fn addresses_that_no_request_is_for_are_nobody_s() {
        assert_reach(
            &[
                "0.0.0.0",
                "0.1.2.3",
                "100.100.100.200",
                "168.63.129.16",
                "169.254.169.254",
                "192.0.0.1",
                "192.0.2.1",
                "192.88.99.1",
                "198.18.0.1",
                "198.19.255.255",
                "198.51.100.1",
                "203.0.113.1",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                // IPv4 as it was once written into IPv6.
                "::127.0.0.1",
                "::8.8.8.8",
                "::ffff:169.254.169.254",
                "::ffff:0:127.0.0.1",
                "64:ff9b::a9fe:a9fe",
                "64:ff9b:1::1",
                "100::1",
                "2001::1",
                "2001:0:1::",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "2001:db8::1",
                "2002:7f00:1::",
                "2002:808:808::1",
                "3fff::1",
                "5f00::1",
                "fd00:ec2::254",
                "fe80::1",
                "febf::1",
                "fec0::1",
                "ff02::1",
                "4000::1",
            ],
            Reach::Nobody,
        );
    }
}
