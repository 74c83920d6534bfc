//! Networks of IP addresses.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

/// One address, or all that have the same beginning, as in `10.0.0.0/8`.
///
/// IPv4 addresses that are written as IPv6 ones (`::ffff:10.0.0.1`, RFC 4291, 2.5.5.2) are the same
/// as without that: a listener on `[::]` sees IPv4 clients by such addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use an IP address or a network, such as 10.0.0.7, fd00::7 or 10.0.0.0/8")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let network: IpNet = text.parse().map_err(|_| NetworkError)?;
        let IpNet::V6(six) = network else { return Ok(Self(network.trunc())) };
        let Some(length) = six.prefix_len().checked_sub(MAPPED_PREFIX) else {
            return Ok(Self(network.trunc()));
        };
        let Some(four) = six.addr().to_ipv4_mapped() else { return Ok(Self(network.trunc())) };
        let four = Ipv4Net::new(four, length).map_err(|_| NetworkError)?;
        Ok(Self(IpNet::V4(four).trunc()))
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

const MAPPED_PREFIX: u8 = 96; // bits of ::ffff:0:0

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_the_same_however_it_is_written() {
        for (network, address, is_in) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("::ffff:127.0.0.1", "::ffff:7f00:1", true),
            ("::ffff:10.0.0.0/104", "10.200.0.1", true),
            ("::ffff:10.0.0.0/104", "11.0.0.1", false),
            ("10.0.0.7/8", "10.200.0.1", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "127.0.0.1", false),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), is_in, "{address} in {network}");
        }
    }

    #[test]
    fn says_what_a_network_looks_like() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0/8", "10.0.0.1:80", "fd00::/129"] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.to_string().contains("10.0.0.0/8"), "{text}");
        }
    }
}
