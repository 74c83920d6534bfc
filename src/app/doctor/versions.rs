//! Version numbers: whether `repo/` shows later ones than the catalog knows of, as after an older
//! catalog was restored.

use super::Examination;
use crate::app::Error;
use crate::app::publish::seen;

impl Examination {
    pub(super) async fn versions(&mut self) -> Result<String, Error> {
        if self.keyring.is_none() {
            return Ok(
                "not looked at: without the role keys nobody knows which files are ours".into()
            );
        }
        let (repository, _) = self.state.repositories().await?;
        let reserved = seen::reserved(&self.roles);
        let seen = seen::highest_seen(self.store.as_ref(), &repository, &reserved).await?;
        for (role, version) in &seen {
            let known = reserved.get(role).copied().unwrap_or(0);
            self.error(
                format!("repo/ has version {version} of {role}, and the catalog knows of {known}: the catalog is older than what clients have seen"),
                "stop the server, run `motorcade recover versions` and start it: docs/runbooks/restored-from-an-old-backup.md",
            );
        }
        Ok(format!("the numbers of {} roles in repo/ and in the catalog", reserved.len()))
    }
}
