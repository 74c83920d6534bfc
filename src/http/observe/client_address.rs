//! Where a request comes from, for the log: the address of its connection, or what a trusted proxy
//! says of it.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderMap, X_FORWARDED_FOR};

use crate::http::identity::IdentityConfig;
use crate::http::rfc::conditional::joined_lines;

/// The address of the client, as far as it can be known.
///
/// `X-Forwarded-For` counts only from a trusted proxy, and is read from its end, which is what the
/// nearest proxy has written: whatever a client makes up stands before that.
pub(in crate::http) fn client_address(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    identity: Option<&IdentityConfig>,
) -> Option<IpAddr> {
    let mut address = peer?.ip().to_canonical();
    let is_trusted = |address: &IpAddr| {
        let proxy = identity.and_then(|identity| identity.proxy.as_ref());
        proxy.is_some_and(|proxy| proxy.addresses.iter().any(|network| network.contains(*address)))
    };
    if !is_trusted(&address) {
        return Some(address);
    }
    let forwarded = joined_lines(headers, X_FORWARDED_FOR).unwrap_or_default();
    for before in forwarded.rsplit(|byte| *byte == b',').map_while(parse) {
        address = before;
        if !is_trusted(&address) {
            break;
        }
    }
    Some(address)
}

/// An address as proxies write it, some of them with a port.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let with_port = || text.parse().map(|address: SocketAddr| address.ip()).ok();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse()
        .ok()
        .or_else(with_port)
        .or_else(in_brackets)
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::http::identity::TrustedProxy;

    fn found(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let addresses = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let header = "x-vehicle-id".parse().unwrap();
        let identity = IdentityConfig {
            proxy: Some(TrustedProxy { header, addresses }),
            ..IdentityConfig::default()
        };
        client_address(peer.parse().ok(), &headers, Some(&identity)).unwrap().to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(found("192.0.2.7:1", &["198.51.100.1"]), "192.0.2.7");
        assert_eq!(found("10.0.0.1:1", &[]), "10.0.0.1");
        for (peer, lines) in [
            ("10.0.0.1:1", &["192.0.2.7"][..]),
            ("[::ffff:10.0.0.1]:1", &["192.0.2.7:5000"]),
            ("10.0.0.1:1", &["198.51.100.1, 192.0.2.7"]),
            ("10.0.0.1:1", &["198.51.100.1", "192.0.2.7 , 10.0.0.2"]),
            ("10.0.0.1:1", &["10.0.0.2, ::ffff:192.0.2.7"]),
        ] {
            assert_eq!(found(peer, lines), "192.0.2.7", "{peer} {lines:?}");
        }
        assert_eq!(found("10.0.0.1:1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(found("10.0.0.1:1", &["[2001:db8::1]"]), "2001:db8::1");
    }

    #[test]
    fn what_is_no_address_ends_the_list() {
        assert_eq!(found("10.0.0.1:1", &["192.0.2.7, unknown"]), "10.0.0.1");
        assert_eq!(found("10.0.0.1:1", &["\u{e9}, 10.0.0.2"]), "10.0.0.2");
    }
}
