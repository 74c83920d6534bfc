//! The key exchange with which this process begins TLS.

use rustls::crypto::aws_lc_rs::{default_provider, kx_group::X25519MLKEM768};

/// Where X25519MLKEM768 stands among the key exchanges that are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostQuantum {
    /// It is tried first: whoever records a connection today can't read it with a quantum computer
    /// later.
    First,
    /// It is known, and takes 2.3 KB of a connection only if the server insists.
    Last,
}

/// From now on offers X25519MLKEM768 there, in all of this process; whoever is first decides.
///
/// The other key exchanges stay, for a server or a proxy that doesn't know this one: X25519 comes
/// along without another round trip. Nothing is left to rustls, whose own order depends on which
/// packages were built together.
pub fn offer_post_quantum(place: PostQuantum) {
    let mut provider = default_provider();
    provider.kx_groups.retain(|group| group.name() != X25519MLKEM768.name());
    match place {
        PostQuantum::First => provider.kx_groups.insert(0, X25519MLKEM768),
        PostQuantum::Last => provider.kx_groups.push(X25519MLKEM768),
    }
    let _ = provider.install_default(); // it was done before
}
