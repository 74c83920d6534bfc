//! Keys that change while everything goes on: an ECU's, and the one that signs the timestamp.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::{Demo, IMAGE, say, this_program};
use crate::api::ImageBody;
use crate::envelope::key::RecipientPrivateKey;
use crate::uptane::client::VerifiedRepository;

impl Demo {
    /// An ECU got a new key: the image's envelope changes, and nothing else of it.
    pub(super) async fn rotate_a_recipient(&self) -> anyhow::Result<()> {
        let old = fs::read_to_string(self.folder.join("ecu-P-256.pem"))?;
        let old = RecipientPrivateKey::parse(&old)?;
        let new = RecipientPrivateKey::generate_p256();
        fs::write(self.folder.join("ecu-new.pem"), new.to_pkcs8_pem().as_bytes())?;
        fs::write(self.folder.join("ecu-new.pub.pem"), new.public().to_public_pem())?;
        let sealed = self.sealed_digest().await?;
        let started = Instant::now();
        let kid = old.kid().to_string();
        self.as_officer(&["recipient", "rotate", "--follow", &kid, "ecu-new.pub.pem"])?;
        let took = started.elapsed();
        ensure!(self.sealed_digest().await? == sealed, "the sealed image has changed");
        let (repository, _) = self.walk().await?;
        let envelope = self.folder.join("gateway.bin.jwe");
        fs::remove_file(&envelope)?;
        let downloaded = repository.download(&format!("{IMAGE}.jwe"), &envelope).await;
        downloaded.map_err(anyhow::Error::from_boxed)?;
        ensure!(self.open("new", &[])?.status.success(), "the new key opens nothing");
        ensure!(!self.open("P-256", &[])?.status.success(), "the old key still opens it");
        say(
            "Rotated",
            format!(
                "the ECU's P-256 key in {took:.1?}: the new one opens the new envelope, the old one doesn't"
            ),
        );
        say("", "the sealed image is the same, byte for byte");
        Ok(())
    }

    /// The key that signs most often is replaced, and nobody is cut off.
    pub(super) async fn rotate_a_role(&self) -> anyhow::Result<u64> {
        self.as_officer(&["role", "rotate", "timestamp"])?;
        let (_, root) = self.walk().await?;
        say("Rotated", format!("the timestamp's key: root {root} names another one"));
        say("Verified", "by tough from root 1 on, which follows the chain");
        Ok(root)
    }

    /// Has the stock client walk the repository from the root that a vehicle gets at the factory.
    async fn walk(&self) -> anyhow::Result<(VerifiedRepository, u64)> {
        let root = fs::read(self.state.trust_anchor())?;
        let repository = VerifiedRepository::load(&root, &format!("{}/repo", self.url)).await;
        let repository = repository.map_err(anyhow::Error::from_boxed)?;
        let [root, ..] = repository.versions();
        Ok((repository, root))
    }

    async fn sealed_digest(&self) -> anyhow::Result<String> {
        let url = format!("{}/api/v1/images/{IMAGE}", self.url);
        let shown = self.http.get(url).bearer_auth(&self.engineer).send().await?;
        Ok(shown.error_for_status()?.json::<ImageBody>().await?.sealed.sha256.to_string())
    }

    /// Runs a command of this program, as a key officer types it.
    fn as_officer(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(this_program());
        command.current_dir(&self.folder).args(args);
        command.env("MOTORCADE_SERVER", &self.url).env("MOTORCADE_TOKEN", &self.officer);
        let output = command.output().context("failed to run a command of the demo")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
