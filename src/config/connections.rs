//! Settings of how many connections there may be.

use clap::Args;

/// How many connections there may be.
#[derive(Debug, Clone, Default, Args)]
pub struct ConnectionSettings {
    /// Connections at one time [default: 16384, or half of the open files that the system allows]
    #[arg(long, env = "MOTORCADE_MAX_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    max_connections: Option<u32>,

    /// Connections from one address, unless it is a trusted proxy's [default: half of
    /// max-connections]
    #[arg(long, env = "MOTORCADE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections_per_address: Option<u32>,
}

/// How many connections there may be; none for the built-in number.
#[derive(Debug, Clone, Default)]
pub struct ConnectionConfig {
    /// At one time.
    pub max_connections: Option<usize>,
    /// From one address.
    pub max_connections_per_address: Option<usize>,
}

impl ConnectionSettings {
    pub(super) fn resolve(self, file: Self) -> ConnectionConfig {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let per_address = self.max_connections_per_address.or(file.max_connections_per_address);
        ConnectionConfig {
            max_connections: self.max_connections.or(file.max_connections).map(size),
            max_connections_per_address: per_address.map(size),
        }
    }
}
