//! Keys: those that are here against the roots and the envelopes.

use std::collections::BTreeSet;

use super::Examination;
use crate::app::trust::{self, Remembered};
use crate::app::{Error, keys};
use crate::model::RepositorySide;
use crate::uptane::key::KeyId;

impl Examination {
    pub(super) async fn keys(&mut self) -> Result<String, Error> {
        let weak = keys::check_stored_keys(&self.catalog).await?;
        for problem in weak {
            self.error(
                problem,
                "remove it or have it replaced, and count what was sealed for it as known",
            );
        }
        if !self.state.keys().exists() {
            self.warn(
                "keys/ is not here, as in a backup that keeps it apart",
                "put it in place before you start the server",
            );
            return Ok("public keys in the catalog; keys/ is not here".into());
        }
        self.role_keys().await?;
        self.escrow_key().await?;
        Ok("keys/ against both roots and the envelopes, public keys in the catalog".into())
    }

    async fn role_keys(&mut self) -> Result<(), Error> {
        let policy = self.policy_or_default();
        let keyring = match self.state.keyring(&policy).await {
            Err(error) => {
                self.error(error.reason(), PUT_BACK);
                return Ok(());
            }
            Ok(keyring) => keyring,
        };
        for key in keyring.all() {
            if let Some(fault) = key.fault() {
                let problem = format!("the role key {} can't be used: {fault}", key.place());
                self.error(problem, "docs/runbooks/hsm-away.md");
            }
        }
        let mut problems = Vec::new();
        for (side, root) in
            [(RepositorySide::Image, &self.image), (RepositorySide::Director, &self.director)]
        {
            let Some(root) = root else { continue };
            let former =
                trust::former_root_keys(&self.catalog, self.store.as_ref(), &keyring, side, root)
                    .await;
            problems.extend(trust::compare_keys(&keyring, &policy, side, root, &former, &NONE));
        }
        let image = self.image.iter();
        problems
            .extend(image.flat_map(|set| trust::compare_bins(&keyring, &self.roles, set, &NONE)));
        let lost = self.catalog.list_lost_keys().await?;
        for problem in problems {
            let is_lost = lost.iter().any(|id| problem.contains(&id.to_string()));
            self.error(problem, if is_lost { ROTATE } else { PUT_BACK });
        }
        self.keyring = Some(keyring);
        Ok(())
    }

    async fn escrow_key(&mut self) -> Result<(), Error> {
        match self.state.escrow() {
            Err(error) => self.error(error.reason(), PUT_BACK),
            Ok(escrow) => match trust::check_proof(&self.catalog, &escrow).await? {
                Remembered::Another(problem) => self.error(problem, PUT_BACK),
                Remembered::These | Remembered::AllBut { .. } | Remembered::Nothing => {
                    if let Some(wanted) = trust::find_other_wrapping(&self.catalog, &escrow).await?
                    {
                        let problem = format!(
                            "another escrow key wraps since a rotation, {wanted}, and it is not in keys/"
                        );
                        self.error(problem, COPY);
                    }
                }
            },
        }
        Ok(())
    }
}

static NONE: BTreeSet<KeyId> = BTreeSet::new();
const ROTATE: &str = "it is lost, as a person has said: hand the role over with `motorcade role rotate ROLE \
     --accept-failed-cycles`, see docs/runbooks/online-key-lost.md";
const COPY: &str = "copy keys/ from the server on which `motorcade escrow rotate` was carried out, see docs/REPLICAS.md";
const PUT_BACK: &str = "put the right file back from a backup of keys/, with mode 0600; one that is lost for good: docs/runbooks/online-key-lost.md";
