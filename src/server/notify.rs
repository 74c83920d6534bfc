//! What is said to the service manager: systemd's `sd_notify(3)`, one datagram a message.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who is told that the server can serve, and that it stops; nobody if there is no socket.
#[derive(Debug, Default)]
pub(super) struct Manager(Option<SocketAddr>);

impl Manager {
    /// The manager that listens on `socket`, which is `NOTIFY_SOCKET`.
    ///
    /// # Errors
    ///
    /// If that is no name of a socket.
    pub(super) fn at(socket: Option<&OsStr>) -> io::Result<Self> {
        let Some(socket) = socket else { return Ok(Self(None)) };
        let address = match socket.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(socket)?,
        };
        Ok(Self(Some(address)))
    }

    /// Tells it that requests are answered.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Tells it that the server stops, which may take a while.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, message: &str) {
        let Some(address) = &self.0 else { return };
        let told = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(message.as_bytes(), address));
        if let Err(error) = told {
            tracing::warn!(%error, message, "the service manager can't be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_systemd_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("motorcade-test-{}", std::process::id());
        let listeners = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (address, listener) in listeners {
            let manager = Manager::at(Some(&address)).unwrap();
            manager.ready();
            manager.stopping();
            let mut buffer = [0; 64];
            for expected in ["READY=1", "STOPPING=1"] {
                let count = listener.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..count], expected.as_bytes());
            }
        }
        Manager::at(None).unwrap().ready();
    }
}
