//! What a running server says of itself.

use super::{Examination, Service};

impl Examination {
    pub(super) fn service(&mut self) -> Option<String> {
        match self.around.service.take()? {
            Service::Ready => {}
            Service::NotReady(why) => {
                self.error(why, "docs/OPERATIONS.md, \"When something is wrong\"");
            }
        }
        Some("whether this server is ready".into())
    }
}
