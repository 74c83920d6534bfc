//! The query of an upload, `?hardware_id=…&version=…&release_counter=…`, as anybody may write it.
//!
//! Pure: text in, typed members out, or the rule that is broken.

use std::fmt::Display;
use std::str::FromStr;

use url::form_urlencoded;

use crate::model::{
    Constraint, HardwareId, ImageName, ImageVersion, ReleaseCounter, SealAlgorithm, TargetFormat,
};

/// The members, each of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadQuery {
    /// Hardware that may run the image, in order; never empty.
    pub hardware_ids: Vec<HardwareId>,
    /// Kids of recipients, if not those of the hardware ids.
    pub recipients: Option<Vec<String>>,
    /// Name of the software, if it is given.
    pub name: Option<ImageName>,
    /// Version of the software.
    pub version: ImageVersion,
    /// Release counter.
    pub release_counter: ReleaseCounter,
    /// How the ECU installs it.
    pub target_format: TargetFormat,
    /// How it is sealed.
    pub algorithm: SealAlgorithm,
    /// Dependencies in the same vehicle, in order.
    pub requires: Vec<Constraint>,
    /// Conflicts in the same vehicle, in order.
    pub conflicts: Vec<Constraint>,
    /// Whether an image without a byte is meant.
    pub allows_empty: bool,
}

impl UploadQuery {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// The parameter, and the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        refuse_raw_plus(text)?;
        let members = form_urlencoded::parse(text.as_bytes());
        Self::of(members.map(|(member, value)| (member.into_owned(), value.into_owned())))
    }

    /// Reads members that come otherwise than in a query.
    ///
    /// # Errors
    ///
    /// The parameter, and the rule that it breaks.
    pub fn of(members: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let members = Members::read(members)?;
        let mut hardware_ids: Vec<HardwareId> =
            members.hardware_ids.iter().map(|id| parse(id)).collect::<Result<_, _>>()?;
        hardware_ids.sort();
        hardware_ids.dedup();
        if hardware_ids.is_empty() {
            return Err(
                "`hardware_id` is missing: say which hardware may run the image, once for each"
                    .to_owned(),
            );
        }
        let name = members.name.as_deref().map(parse).transpose()?;
        let missing = |member: &str| format!("`{member}` is missing");
        let version = members.version.ok_or_else(|| missing("version"))?;
        if version.contains(' ') {
            return Err(
                "`version` must not contain a space; a `+` is written `%2B` in a query".to_owned()
            );
        }
        let release_counter = members.release_counter.ok_or_else(|| missing("release_counter"))?;
        let target_format = members.target_format.as_deref().map(parse).transpose()?;
        let algorithm = members.algorithm.as_deref().map(parse).transpose()?;
        Ok(Self {
            hardware_ids,
            recipients: (!members.recipients.is_empty()).then_some(members.recipients),
            name,
            version: parse(&version)?,
            release_counter: parse(&release_counter)?,
            target_format: target_format.unwrap_or(TargetFormat::Binary),
            algorithm: algorithm.unwrap_or(SealAlgorithm::Aes256GcmHkdf1Mb),
            requires: constraints(members.requires)?,
            conflicts: constraints(members.conflicts)?,
            allows_empty: allows_empty(members.allow_empty.as_deref())?,
        })
    }
}

/// The members as text; each once but for those that are lists.
#[derive(Default)]
struct Members {
    hardware_ids: Vec<String>,
    recipients: Vec<String>,
    version: Option<String>,
    release_counter: Option<String>,
    name: Option<String>,
    target_format: Option<String>,
    algorithm: Option<String>,
    requires: Vec<String>,
    conflicts: Vec<String>,
    allow_empty: Option<String>,
}

impl Members {
    fn read(members: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let mut query = Self::default();
        for (member, value) in members {
            let single = match &*member {
                "hardware_id" => {
                    query.hardware_ids.push(value);
                    continue;
                }
                "recipient" => {
                    query.recipients.push(value);
                    continue;
                }
                "requires" => {
                    query.requires.push(value);
                    continue;
                }
                "conflicts" => {
                    query.conflicts.push(value);
                    continue;
                }
                "version" => &mut query.version,
                "release_counter" => &mut query.release_counter,
                "name" => &mut query.name,
                "target_format" => &mut query.target_format,
                "algorithm" => &mut query.algorithm,
                "allow_empty" => &mut query.allow_empty,
                other => {
                    return Err(format!("unknown query parameter {other:.40?}: use {ALLOWED}"));
                }
            };
            if single.replace(value).is_some() {
                return Err(format!("`{member}` is given twice"));
            }
        }
        Ok(query)
    }
}

/// A form writes a space as `+`, and people write `4.2.0+build.7` as it is: what is signed must not
/// depend on who is right. Where there can be spaces, a `+` is one, as libraries write it; where it
/// can't be, or where two of them or one at an end show that it was none (`libstdc++`), it is
/// refused.
fn refuse_raw_plus(text: &str) -> Result<(), String> {
    for member in text.split('&').filter(|member| member.contains('+')) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        let is_text = matches!(name, "name" | "requires" | "conflicts");
        let is_odd = value.starts_with('+') || value.ends_with('+') || value.contains("++");
        if !is_text || is_odd {
            return Err(format!(
                "`{name:.40}` has a raw `+`: write `%2B` for a plus, or `%20` for a space"
            ));
        }
    }
    Ok(())
}

fn allows_empty(allowed: Option<&str>) -> Result<bool, String> {
    match allowed {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err("`allow_empty` must be true or false".to_owned()),
    }
}

fn constraints(texts: Vec<String>) -> Result<Vec<Constraint>, String> {
    if texts.len() > MAX_CONSTRAINTS {
        return Err(format!(
            "an image can require and conflict with {MAX_CONSTRAINTS} others each"
        ));
    }
    let mut constraints: Vec<Constraint> =
        texts.into_iter().map(|text| parse(&text)).collect::<Result<_, _>>()?;
    constraints.sort();
    constraints.dedup();
    Ok(constraints)
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|rule: T::Err| rule.to_string())
}

const ALLOWED: &str = "hardware_id, version, release_counter, name, target_format, algorithm, recipient, requires, conflicts and allow_empty";
const MAX_CONSTRAINTS: usize = 32; // they are in signed metadata, and checked with each assignment
