//! Keys: the files in `keys/` against both roots and the envelopes.

use std::collections::BTreeSet;

use super::Check;
use crate::app::Error;
use crate::app::trust::{self, Remembered};
use crate::model::RepositorySide;
use crate::uptane::key::KeyId;
use crate::uptane::verify::TrustedSet;

impl Check {
    pub(super) async fn keys(
        &mut self,
        image: Option<&TrustedSet>,
        director: Option<&TrustedSet>,
    ) -> Result<(), Error> {
        if !self.state.keys().exists() {
            let skipped = "keys/ is not here, as in a backup that keeps it apart: no key was compared with what it signed or sealed";
            self.findings.skipped.push(skipped.into());
            return Ok(());
        }
        let keyring = match self.state.policy() {
            Ok(policy) => self.state.keyring(&policy).await.map(|keyring| (keyring, policy)),
            Err(error) => Err(error),
        };
        match keyring {
            Err(error) => self.problem(error.reason()),
            Ok((keyring, policy)) => {
                for (side, root) in
                    [(RepositorySide::Image, image), (RepositorySide::Director, director)]
                {
                    let Some(root) = root else { continue };
                    let former = trust::former_root_keys(
                        &self.catalog,
                        self.store.as_ref(),
                        &keyring,
                        side,
                        root,
                    )
                    .await;
                    let problems =
                        trust::compare_keys(&keyring, &policy, side, root, &former, &NONE);
                    self.findings.problems.extend(problems);
                }
                let suppliers = self.catalog.list_suppliers().await?;
                let states =
                    trust::signed_here(&self.catalog.list_roles().await?, &suppliers, &policy);
                for compare in [trust::compare_bins, trust::compare_suppliers] {
                    let problems = image.map(|image| compare(&keyring, &states, image, &NONE));
                    self.findings.problems.extend(problems.into_iter().flatten());
                }
            }
        }
        match self.state.escrow() {
            Err(error) => self.problem(error.reason()),
            Ok(escrow) => match trust::check_proof(&self.catalog, &escrow).await? {
                Remembered::Another(problem) => self.problem(problem),
                Remembered::These | Remembered::AllBut { .. } | Remembered::Nothing => {}
            },
        }
        Ok(())
    }
}

/// Keys that are lost are missing, too.
static NONE: BTreeSet<KeyId> = BTreeSet::new();
