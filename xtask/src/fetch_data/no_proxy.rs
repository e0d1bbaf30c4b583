//! Which hosts `NO_PROXY` names.

use std::net::IpAddr;

/// Whether the list names the host: as curl reads it since 7.86, and besides that `*` anywhere in the
/// list, `*.` before a domain, and blanks for commas.
///
/// A domain stands for its hosts too, with or without a dot before or behind it. An address is named
/// by itself or by its network: `127.0.0.0/8`, `fd00::/8`.
pub(super) fn names(list: &str, host: &str) -> bool {
    let address = without_brackets(host).parse().ok();
    let host = host.strip_suffix('.').unwrap_or(host);
    list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).any(|entry| {
        entry == "*"
            || match address {
                Some(address) => is_within(address, entry),
                None => is_of(host, entry),
            }
    })
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_within(address: IpAddr, entry: &str) -> bool {
    let (network, bits) = entry.split_once('/').unwrap_or((entry, "0"));
    let (Ok(network), Ok(bits)) = (without_brackets(network).parse(), bits.parse::<u32>()) else {
        return false;
    };
    let (network, address, length) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits().into(), address.to_bits().into(), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    // For curl no bits are all bits.
    let bits = if bits == 0 { length } else { bits };
    let differing: u128 = network ^ address;
    bits <= length && differing >> (length - bits) == 0
}

fn is_of(host: &str, entry: &str) -> bool {
    let domain = entry.strip_suffix('.').unwrap_or(entry);
    let domain = domain.strip_prefix('*').unwrap_or(domain);
    let domain = domain.strip_prefix('.').unwrap_or(domain).as_bytes();
    let Some(at) = host.len().checked_sub(domain.len()) else { return false };
    let (before, end) = host.as_bytes().split_at(at);
    !domain.is_empty()
        && end.eq_ignore_ascii_case(domain)
        && (before.is_empty() || before.ends_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &str, named: &[&str], others: &[&str]) {
        for host in named {
            assert!(names(list, host), "{host} is in {list:?}");
        }
        for host in others {
            assert!(!names(list, host), "{host} is not in {list:?}");
        }
    }

    #[test]
    fn domains_stand_for_their_hosts() {
        let named = ["a.org", "A.Org", "a.org.", "m.a.org", "x.m.a.org."];
        let others = ["ba.org", "a.org.com", "org", "a"];
        for list in ["a.org", ".a.org", "a.org.", ".A.ORG.", "*.a.org", "b.de, a.org", "b.de a.org"]
        {
            check(list, &named, &others);
        }
        check("", &[], &named);
        check(" , .,", &[], &named);
        check("*", &["a.org", "127.0.0.1", "[::1]"], &[]);
    }

    #[test]
    fn networks_stand_for_their_addresses() {
        check("127.0.0.1", &["127.0.0.1"], &["127.0.0.2", "1.127.0.0.1.org"]);
        check("127.0.0.0/8", &["127.0.0.1", "127.255.0.9"], &["128.0.0.1", "126.0.0.1"]);
        check("10.1.2.0/23", &["10.1.2.1", "10.1.3.255"], &["10.1.4.0", "10.1.1.255"]);
        check("10.1.2.3/32", &["10.1.2.3"], &["10.1.2.2"]);
        check("10.1.2.3/0", &["10.1.2.3"], &["10.1.2.2"]);
        check("a.org,192.168.0.0/16", &["192.168.3.4", "a.org"], &["192.169.0.0", "b.org"]);
        check("10.0.0.0/33,10.0.0.0/x,10.0.0.0/,10/8", &[], &["10.0.0.0", "10.0.0.1"]);
    }

    #[test]
    fn so_do_networks_of_long_addresses() {
        check("::1", &["[::1]"], &["[::2]", "127.0.0.1"]);
        check("[::1]", &["[::1]"], &["[::2]"]);
        check("fd00::/8", &["[fd00::1]", "[fdff:1::2]"], &["[fe00::1]", "10.0.0.1"]);
        check("fe80::/10", &["[fe80::1]", "[febf::1]"], &["[fec0::1]"]);
        check("::/129", &[], &["[::]"]);
    }
}
