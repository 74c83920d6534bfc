//! Certificates and revocation lists of TLS.

use std::time::Duration;

use super::{Certificate, Examination};
use crate::app::Error;
use crate::model::clock::later;

impl Examination {
    pub(super) fn certificates(&mut self) -> Result<String, Error> {
        let certificates = std::mem::take(&mut self.around.certificates);
        for Certificate { what, expires, consequence } in &certificates {
            match expires {
                Err(fault) => self.error(
                    format!("{what}: {fault}"),
                    "mend the file; a server that starts refuses it",
                ),
                Ok(expires) if *expires <= self.now => {
                    self.error(format!("{what} expired at {expires}: {consequence}"), REPLACE);
                }
                Ok(expires) if *expires < later(self.now, SOON) => {
                    self.warn(format!("{what} expires at {expires}"), REPLACE);
                }
                Ok(_) => {}
            }
        }
        Ok(match certificates.len() {
            0 => "none: TLS is not served here".into(),
            1 => "1 file of TLS".into(),
            files => format!("{files} files of TLS"),
        })
    }
}

const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const REPLACE: &str = "replace the file; it is noticed without a restart";
