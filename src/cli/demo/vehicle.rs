//! The demo's second half: a vehicle with two ECUs is updated, cut off in the middle, and attacked.
//!
//! The vehicle is another process of this program, which can be killed like a real one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::{Demo, IMAGE, MARKER, same_bytes, say, this_program};
use crate::api::{NewAssignment, NewAssignments, VehicleBody};
use crate::blob::BlobKey;
use crate::cli::output;

impl Demo {
    pub(super) async fn drive_a_vehicle(&self) -> anyhow::Result<()> {
        let brake = self.folder.join("brake.bin");
        make_image(&brake)?;
        self.upload_for_brakes(&brake, "brake/7/brake.bin", 7).await?;
        self.provision().await?;
        let idle = self.update()?;
        ensure!(
            idle.outcome == "up_to_date",
            "a vehicle without assignments is up to date: {idle:?}"
        );
        say("Polled", "the vehicle reports what it runs, and is up to date");
        self.assign(&[(GATEWAY, IMAGE), (BRAKE, "brake/7/brake.bin")]).await?;
        self.cut_off_a_download()?;
        self.finish_the_update(&brake)?;
        let root = self.rotate_a_role().await?;
        let polled = self.update()?;
        ensure!(polled.outcome == "up_to_date", "the vehicle did not follow: {polled:?}");
        say("Polled", format!("the vehicle follows root {root}, and is up to date"));
        self.refuse_a_changed_image().await
    }

    async fn upload_for_brakes(&self, file: &Path, path: &str, counter: u64) -> anyhow::Result<()> {
        let key = fs::read_to_string(self.folder.join("ecu-RSA-3072.pem"))?;
        let key = crate::envelope::key::RecipientPrivateKey::parse(&key)?;
        let status = self.register_recipient("brake-2", &key).await?;
        ensure!(status.is_success(), "the recipient was refused");
        let query = format!(
            "hardware_id=brake-2&version=1.{counter}&release_counter={counter}&requires=gateway%3E%3D42"
        );
        let url = format!("{}/api/v1/images/{path}?{query}", self.url);
        let request = self.http.put(url).bearer_auth(&self.uploader).body(fs::read(file)?);
        ensure!(request.send().await?.status() == StatusCode::CREATED, "the upload was refused");
        say("Uploaded", format!("{path}, which requires the gateway's software 42 or later"));
        Ok(())
    }

    /// What a factory does: roots and keys into the vehicle, public keys into the inventory.
    async fn provision(&self) -> anyhow::Result<()> {
        for (name, path) in [
            ("director-root.json", "director/1.root.json"),
            ("image-root.json", "repo/1.root.json"),
        ] {
            let root =
                self.http.get(format!("{}/{path}", self.url)).send().await?.error_for_status()?;
            fs::write(self.folder.join(name), root.bytes().await?)?;
        }
        let mut command = self.vehicle("provision");
        command.env("MOTORCADE_ENROLMENT_TOKEN", &self.enroller);
        command.args(["--server", &self.url, "--vin", VIN, "--primary", "gw-0001:gw-mk3:p256"]);
        command.args(["--secondary", "brake-0001:brake-2:rsa", "--director-root"]);
        command.arg(self.folder.join("director-root.json"));
        command.arg("--image-root").arg(self.folder.join("image-root.json"));
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        say(
            "Enrolled",
            "a vehicle: a Primary with a P-256 key, a Secondary with an RSA key of its own",
        );
        Ok(())
    }

    async fn assign(&self, images: &[(&str, &str)]) -> anyhow::Result<()> {
        let assignment = |(ecu, image): &(&str, &str)| {
            anyhow::Ok(NewAssignment { ecu_serial: ecu.parse()?, image: image.parse()? })
        };
        let assignments = images.iter().map(assignment).collect::<Result<_, _>>()?;
        let body = NewAssignments { assignments, rollback_reason: None };
        let url = format!("{}/api/v1/vehicles/{VIN}/assignments", self.url);
        let response = self
            .http
            .request(Method::POST, url)
            .bearer_auth(&self.engineer)
            .json(&body)
            .send()
            .await?;
        ensure!(
            response.status() == StatusCode::CREATED,
            "the assignment was refused: {}",
            response.text().await?
        );
        say("Assigned", "an image to each; the Director signs metadata for this one vehicle");
        Ok(())
    }

    /// Kills the vehicle in the middle of its download.
    fn cut_off_a_download(&self) -> anyhow::Result<()> {
        let sealed = fs::metadata(self.folder.join("firmware.bin"))?.len();
        let mut running =
            self.vehicle("update").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let started = Instant::now();
        let partial = loop {
            let partial = self.downloaded()?;
            if partial > sealed / 4 || running.try_wait()?.is_some() || started.elapsed() > PATIENCE
            {
                break partial;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        running.kill()?;
        running.wait()?;
        let kept = self.downloaded()?;
        if kept == 0 || kept >= sealed {
            say("Downloaded", format!("{} before it could be cut off", output::size(partial)));
            return Ok(());
        }
        let (kept, sealed) = (output::size(kept), output::size(sealed));
        say(
            "Killed",
            format!("the vehicle with {kept} of {sealed} downloaded; nothing was installed"),
        );
        Ok(())
    }

    fn finish_the_update(&self, brake: &Path) -> anyhow::Result<()> {
        let before = self.downloaded()?;
        let started = Instant::now();
        let updated = self.update()?;
        ensure!(updated.outcome == "updated", "the update failed: {updated:?}");
        for (ecu, image) in [(GATEWAY, self.folder.join("firmware.bin")), (BRAKE, brake.to_owned())]
        {
            ensure!(same_bytes(&self.installed(ecu), &image)?, "{ecu} runs other bytes");
        }
        let took = started.elapsed();
        let rest = format!("verified, opened and installed on both ECUs in {took:.1?}");
        say("Updated", format!("resumed after {}, {rest}", output::size(before)));
        Ok(())
    }

    /// A mirror, a disk or a thief changes one bit of an image on the server.
    async fn refuse_a_changed_image(&self) -> anyhow::Result<()> {
        let image = self.folder.join("brake-8.bin");
        make_image(&image)?;
        self.upload_for_brakes(&image, "brake/8/brake.bin", 8).await?;
        self.assign(&[(BRAKE, "brake/8/brake.bin")]).await?;
        self.flip_a_bit("brake/8/brake.bin").await?;
        let before = fs::read(self.installed(BRAKE))?;
        let refused = self.update()?;
        ensure!(refused.outcome == "refused", "a changed image was installed: {refused:?}");
        ensure!(fs::read(self.installed(BRAKE))? == before, "the ECU's image has changed");
        say(
            "Refused",
            format!(
                "an image with one bit flipped on the server: {}",
                refused.attack.unwrap_or_default()
            ),
        );
        let url = format!("{}/api/v1/vehicles/{VIN}", self.url);
        let shown: VehicleBody =
            self.http.get(url).bearer_auth(&self.engineer).send().await?.json().await?;
        let reason = shown.quarantine.context("the attack was not reported")?.reason;
        say("Reported", format!("{reason}; the vehicle is in quarantine until a person clears it"));
        Ok(())
    }

    /// Puts other bytes in the place of a sealed image.
    async fn flip_a_bit(&self, image: &str) -> anyhow::Result<()> {
        let blobs = self.state.blobs().await?;
        let is_it = |key: &BlobKey| matches!(key, BlobKey::Target { path, .. } if path == image);
        let mut keys = blobs.list().await?.into_iter().filter_map(|(_, key)| key);
        let key = keys.find(is_it).context("no image is stored")?;
        let mut bytes = blobs.open(&key).await?.read_all(u64::MAX).await?.to_vec();
        *bytes.get_mut(4_000_000).context("the image is too short")? ^= 1;
        blobs.delete(&key).await?;
        Ok(blobs.put(&key, bytes.into()).await?)
    }

    fn vehicle(&self, verb: &str) -> Command {
        let mut command = Command::new(this_program());
        command.args(["motorcade-vehicle", verb, "--dir"]).arg(self.folder.join("vehicle"));
        command
    }

    fn update(&self) -> anyhow::Result<Updated> {
        let Output { stdout, stderr, .. } = self.vehicle("update").arg("--json").output()?;
        serde_json::from_slice(&stdout)
            .with_context(|| String::from_utf8_lossy(&stderr).into_owned())
    }

    /// Bytes of sealed images that the vehicle has.
    fn downloaded(&self) -> anyhow::Result<u64> {
        let Ok(files) = fs::read_dir(self.folder.join("vehicle/downloads")) else { return Ok(0) };
        Ok(files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum())
    }

    fn installed(&self, ecu: &str) -> PathBuf {
        self.folder.join("vehicle/ecus").join(ecu).join("image.bin")
    }
}

/// What `motorcade-vehicle update --json` prints, as much of it as the demo tells of.
#[derive(Debug, Deserialize)]
struct Updated {
    outcome: String,
    attack: Option<String>,
}

fn make_image(path: &Path) -> anyhow::Result<()> {
    let mut image = vec![0; 8 * 1024 * 1024];
    getrandom::fill(&mut image)?;
    image[..MARKER.len()].copy_from_slice(MARKER);
    Ok(fs::write(path, image)?)
}

const VIN: &str = "WVWZZZ1JZXW000001";
const GATEWAY: &str = "gw-0001";
const BRAKE: &str = "brake-0001";
const PATIENCE: Duration = Duration::from_secs(60);
