//! Which state of an image a client expects: a change that was meant for another one is not made.

use serde::{Deserialize, Serialize};

use crate::app::Error;
use crate::model::ImageRecord;

/// What has to be true of an image for a change of it to be made. The default is always true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precondition {
    /// It is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Tags>,
    /// It is none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches_none: Option<Tags>,
}

/// States of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tags {
    /// Any, as long as there is an image.
    Any,
    /// Those with these tags.
    Of(Vec<String>),
}

impl Tags {
    /// Whether a state with this tag, which there is, is one of them.
    pub fn include(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of(tags) => tags.iter().any(|known| known == tag),
        }
    }
}

impl Precondition {
    /// Whether it is true of the image at a path, if there is one.
    pub fn holds(&self, existing: Option<&ImageRecord>) -> bool {
        self.holds_for(existing.map(tag).as_deref())
    }

    /// Whether it is true of what has a tag; of nothing, if there is none.
    pub fn holds_for(&self, tag: Option<&str>) -> bool {
        let is_in = |tags: &Tags| tag.is_some_and(|tag| tags.include(tag));
        self.matches.as_ref().is_none_or(is_in) && !self.matches_none.as_ref().is_some_and(is_in)
    }

    /// As [`Self::holds`].
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] if it is not true.
    pub fn check(&self, existing: Option<&ImageRecord>) -> Result<(), Error> {
        if self.holds(existing) {
            return Ok(());
        }
        let detail = match existing {
            Some(image) => format!(
                "{} is there, and not as the request expects it: nothing was changed",
                image.path
            ),
            None => "there is no such image, and the request expects one: nothing was changed"
                .to_owned(),
        };
        Err(Error::Unexpected { detail })
    }
}

/// What tells an image from every other, and from itself before it was yanked.
pub fn tag(image: &ImageRecord) -> String {
    let suffix = if image.yanked_at.is_some() { "-yanked" } else { "" };
    format!("{}{suffix}", image.sealed.sha256)
}
