//! The key exchange with which this process begins TLS.

use rustls::crypto::aws_lc_rs::{default_provider, kx_group::X25519MLKEM768};

/// From now on offers X25519MLKEM768 before other key exchanges, in all of this process: whoever
/// records a connection today can't read it with a quantum computer later.
///
/// The other key exchanges stay, for a server or a proxy that doesn't know this one: X25519 comes
/// along without another round trip.
pub fn prefer_post_quantum() {
    let mut provider = default_provider();
    provider.kx_groups.retain(|group| group.name() != X25519MLKEM768.name());
    provider.kx_groups.insert(0, X25519MLKEM768);
    let _ = provider.install_default(); // it was done before
}
