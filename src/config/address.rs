//! Addresses to listen on.

use std::net::{SocketAddr, ToSocketAddrs};

/// An address, or the first one of a host's name; IPv4 before IPv6, since `localhost` is both and
/// the default is the former.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let form = "use a host or an IP address, and a port, such as 127.0.0.1:8080, localhost:8080 or [::]:8080";
    let (host, port) = text.rsplit_once(':').ok_or(form)?;
    let is_name = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !is_name || port.parse::<u16>().is_err() {
        return Err(form.into());
    }
    let addresses =
        text.to_socket_addrs().map_err(|error| format!("there is no host {host}: {error}"))?;
    addresses.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| format!("there is no host {host}"))
}
